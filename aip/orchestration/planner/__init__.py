"""Plans before they run: made from goals, compared, simulated."""

from .difference import Difference, difference, runs_again
from .history import Measured, measure
from .make import Made, NoMethod, make
from .method import Method
from .method_file import MethodsInvalid, parse_methods
from .offer import Offer, Offers, offers_of, offers_of_registry
from .proposal import ProposalInvalid, answer_schema, propose
from .templates import templates
from .weigh import weights

__all__ = [
    "Difference",
    "Made",
    "Measured",
    "Method",
    "MethodsInvalid",
    "NoMethod",
    "Offer",
    "Offers",
    "ProposalInvalid",
    "answer_schema",
    "difference",
    "make",
    "measure",
    "offers_of",
    "offers_of_registry",
    "parse_methods",
    "propose",
    "runs_again",
    "templates",
    "weights",
]
