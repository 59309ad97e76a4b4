"""What every test and every notebook kernel starts with; nbval compares the notebooks' figures too."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from nbval.plugin import IPyNbCell

from tests.figures import different_figures


def pytest_collection_modifyitems(items):
    """nbval leaves images out of its comparison: here they are compared, by what one sees of them."""
    for item in items:
        if isinstance(item, IPyNbCell):
            item.compare_outputs = _with_figures(item)


def _with_figures(cell):
    compare = cell.compare_outputs

    def compare_outputs(test, ref, skip_compare=None):
        if not compare(test, ref, skip_compare):
            return False
        cell.comparison_traceback = different_figures(test, ref)
        return not cell.comparison_traceback

    return compare_outputs
