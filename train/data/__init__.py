"""Data: sources of documents, tokenizers, packed rows, counting baselines. See `Text` for what they make together."""

from train.data.base import Data, Dataset
from train.data.catalogue import Tfds
from train.data.digits import Digits
from train.data.images import TfdsImages
from train.data.sources import IMDbReviews, LocalText, WikiLeads
from train.data.text import Text, TextDataset
from train.data.tokenizers import BPE, Bytes, TokenizerFile

__all__ = ["BPE", "Bytes", "Data", "Dataset", "Digits", "IMDbReviews", "LocalText", "Text", "TextDataset", "Tfds",
           "TfdsImages", "TokenizerFile", "WikiLeads"]  # fmt: skip
