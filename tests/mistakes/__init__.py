"""The mistakes that `mutants.py` plants, and the tests that must catch each."""

from .around import AROUND
from .attention import ATTENTION
from .claims import CLAIMS
from .classifier import CLASSIFIER
from .evaluation import EVALUATION
from .features import FEATURES
from .kinds import Mutant
from .masks import MASKS
from .network import NETWORK
from .orders import ORDERS
from .page import PAGE
from .recognition import RECOGNITION
from .samples import SAMPLES
from .stored_data import STORED_DATA
from .studies import STUDIES
from .text import TEXT
from .token_head import TOKEN_HEAD
from .training import TRAINING
from .video import VIDEO

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = [
    *NETWORK,
    *ATTENTION,
    *VIDEO,
    *TEXT,
    *MASKS,
    *TOKEN_HEAD,
    *ORDERS,
    *TRAINING,
    *STORED_DATA,
    *EVALUATION,
    *FEATURES,
    *AROUND,
    *SAMPLES,
    *CLASSIFIER,
    *RECOGNITION,
    *STUDIES,
    *CLAIMS,
    *PAGE,
]
