"""Data: sources of documents, tokenizers, packed rows, counting baselines. See `Text` for what they make together."""

from train.data.base import Data, Dataset
from train.data.catalogue import Tfds
from train.data.digits import Digits
from train.data.images import TfdsImages
from train.data.order import ByClass, Curriculum, InOrder, Order, Shuffled
from train.data.sources import IMDbReviews, LocalText, WikiLeads
from train.data.text import Text, TextDataset
from train.data.tokenizers import BPE, Bytes, TokenizerFile
from train.data.wrappers import Ordered, WithEvaluation

__all__ = ["BPE", "ByClass", "Bytes", "Curriculum", "Data", "Dataset", "Digits", "IMDbReviews", "InOrder", "LocalText",
           "Order", "Ordered", "Shuffled", "Text", "TextDataset", "Tfds", "TfdsImages", "TokenizerFile", "WikiLeads",
           "WithEvaluation"]  # fmt: skip
