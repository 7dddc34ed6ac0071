"""Data: sources of documents, tokenizers, packed rows, counting baselines. See `Text` for what they make together."""

from train.data.base import Data, Dataset
from train.data.bible import BibleVerses
from train.data.catalogue import Tfds
from train.data.digits import Digits
from train.data.fashion_mnist import FashionMNIST
from train.data.find_verse import FindVerse
from train.data.images import TfdsImages
from train.data.libreoffice import LibreOfficeHelp
from train.data.local_pairs import LocalPairs
from train.data.order import ByClass, ClassIncremental, Curriculum, InOrder, Order, Shuffled
from train.data.pair_rows import OnePair, PackedPairs
from train.data.parallel import Sides, Swapped
from train.data.parallel_text import ParallelText
from train.data.sources import IMDbReviews, LocalText, WikiLeads
from train.data.text import Text, TextDataset
from train.data.tokenizers import BPE, Bytes, TokenizerFile
from train.data.translation_catalogue import TfdsPairs
from train.data.wordpieces import WordPieces
from train.data.wrappers import Ordered, WithClassSets, WithEvaluation

__all__ = ["BPE", "BibleVerses", "ByClass", "Bytes", "ClassIncremental", "Curriculum", "Data", "Dataset", "Digits",
           "FashionMNIST", "FindVerse", "IMDbReviews", "InOrder", "LibreOfficeHelp", "LocalPairs", "LocalText",
           "OnePair", "Order", "Ordered", "PackedPairs", "ParallelText", "Shuffled", "Sides", "Swapped", "Text",
           "TextDataset", "Tfds", "TfdsImages", "TfdsPairs", "TokenizerFile", "WikiLeads", "WithClassSets",
           "WithEvaluation", "WordPieces"]  # fmt: skip
