"""A stage's graph in ONNX form, exported once and kept on disk; the weights stay where they are.

A sweep has two stages per cut: with weights inside, VGG16's would fill 20 GB. So the file holds the graph and the
names of the tensors that belong in it, and whoever opens it supplies them from the stage.

The exporter is torch's TorchScript-based one (`dynamo=False`): measured with torch 2.14, it takes a quarter of the
time of the newer one for the paper's models, the graphs run equally fast, and it needs no onnxscript.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from paretopipe_runtime.model.engines.base import EngineError, StageToBuild
from paretopipe_runtime.model.errors import first_line
from paretopipe_runtime.model.weights import cache_directory

log = logging.getLogger(__name__)

FORMAT = 1
OPSET = 17
INPUT, OUTPUT = "stage_input", "stage_output"


class Exported(NamedTuple):
    """An ONNX model whose large tensors are still missing."""

    model: bytes
    tensors: tuple[str, ...]
    """Names of the missing ones, as in the stage's `state_dict`."""


def exported(stage: StageToBuild) -> Exported:
    """The stage's graph, from disk where it was exported before. Raises EngineError.

    The file appears whole or not at all, so that two workers can share a directory.
    """
    path = cache_directory() / f"stage-{_digest(stage)}.onnx-graph"
    try:
        found = _read(path)
        if found is None:
            found = _export(stage)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, found)
    except OSError as error:
        raise EngineError(
            f"cannot keep an exported stage in {path.parent} ({error.strerror or error})",
            "set PARETOPIPE_CACHE to a directory that can be written and has room",
        ) from error
    return found


def _digest(stage: StageToBuild) -> str:
    key = [FORMAT, OPSET, stage.key, stage.shape, str(stage.dtype), torch.__version__, version("onnx")]
    return blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()


def _read(path: Path) -> Exported | None:
    """One line of JSON, then the model. None where there is none, or a damaged one."""
    try:
        head, _, model = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(head)
        if fields["hash"] == _hash(model):
            return Exported(model, tuple(fields["tensors"]))
    except (ValueError, KeyError, TypeError) as error:
        log.warning("exported stage %s is damaged (%s): exporting it again", path, error)
        return None
    log.warning("exported stage %s is damaged: exporting it again", path)
    return None


def _write(path: Path, stage: Exported) -> None:
    head = json.dumps({"hash": _hash(stage.model), "tensors": stage.tensors}).encode()
    # What a killed writer leaves behind is removed with the weights' own leftovers (weights.py).
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
        try:
            file.write(head + b"\n" + stage.model)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            with suppress(OSError):
                Path(file.name).unlink()
            raise


def _hash(model: bytes) -> str:
    return blake2b(model, digest_size=16).hexdigest()


def _export(stage: StageToBuild) -> Exported:
    try:
        # Its deprecation is known; see above why it is used all the same.
        with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as directory:
            warnings.simplefilter("ignore")
            path = Path(directory) / "stage.onnx"
            torch.onnx.export(
                stage.module,
                (torch.zeros(stage.shape, dtype=stage.dtype),),
                path,
                dynamo=False,
                export_params=False,
                # EVAL would fold normalisations into new tensors, which the stage does not have. The session folds.
                training=torch.onnx.TrainingMode.PRESERVE,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
            )
            model = path.read_bytes()
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"torch {torch.__version__} cannot export this stage to ONNX: {first_line(error)}",
            "choose another engine for this model",
        ) from error
    return _without_weights(model, stage.module.state_dict())


def _without_weights(model: bytes, state: dict[str, torch.Tensor]) -> Exported:
    """Turn the inputs that are the stage's own tensors into external ones, supplied when the model is opened."""
    import onnx

    proto = onnx.load_model_from_string(model)
    inputs = list(proto.graph.input)
    tensors = [value for value in inputs if value.name in state]
    left = [value for value in inputs if value.name not in state]
    if [value.name for value in left] != [INPUT]:
        raise EngineError(
            f"torch {torch.__version__} exports this stage with inputs {', '.join(value.name for value in left)}",
            "choose another engine for this model",
        )
    for value in tensors:
        external = proto.graph.initializer.add()
        external.name = value.name
        external.data_type = value.type.tensor_type.elem_type
        external.dims.extend(size.dim_value for size in value.type.tensor_type.shape.dim)
        external.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in (("location", "supplied"), ("offset", "0"), ("length", str(state[value.name].nbytes))):
            external.external_data.add(key=key, value=entry)
    del proto.graph.input[:]
    proto.graph.input.extend(left)
    return Exported(proto.SerializeToString(), tuple(value.name for value in tensors))
