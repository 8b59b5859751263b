"""Results with planted figures, and their page."""

import pytest

from emodarts.report.page import build_page
from emodarts.results import reader
from tests.support.made_results import write
from tests.support.planted_results import MADE


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for made in MADE:
        write(root, made)
    return root


@pytest.fixture(scope="session")
def page(root):
    return build_page(reader.open(root))
