"""Data: from files, arrays and the user's code to feeds for a model."""

from graphpress.data.inputs import Dims, Feed, ModelInput, Shapes, batch_of, shapes_of
from graphpress.data.load import Dataset, load_dataset
from graphpress.data.origins import data_files
from graphpress.data.samples import Batch, Samples, typical
from graphpress.data.schema import DataFile, LabelSpec, Part, Preprocess
from graphpress.data.synthetic import synthetic_samples
from graphpress.data.user_code import is_reference, load_object

__all__ = [
    "Batch",
    "DataFile",
    "Dataset",
    "Dims",
    "Feed",
    "LabelSpec",
    "ModelInput",
    "Part",
    "Preprocess",
    "Samples",
    "Shapes",
    "batch_of",
    "data_files",
    "is_reference",
    "load_dataset",
    "load_object",
    "shapes_of",
    "synthetic_samples",
    "typical",
]
