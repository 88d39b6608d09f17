"""ONNX Runtime, what edge engineers deploy: a stage's exported graph in a session of its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from paretopipe_runtime.model.engines.base import Compute, EngineError, StageToBuild
from paretopipe_runtime.model.engines.onnx_export import INPUT, OUTPUT, exported
from paretopipe_runtime.model.errors import first_line

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_TORCH_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}


class OnnxRuntime:
    """ONNX Runtime's CPU or CUDA provider, in float32 as the model is. An optional extra: imported by `build` only."""

    name = "onnxruntime"

    def why_not(self, device: torch.device) -> str | None:
        """Which package is missing. (onnxruntime-gpu installs a module of the same name, with the CUDA provider.)"""
        for module in ("onnxruntime", "onnx"):
            if find_spec(module) is None:
                return f"the package {module} is not installed"
        if device.type == "cuda" and not _installed("onnxruntime-gpu"):
            return "the package onnxruntime-gpu is not installed, and onnxruntime computes on CPUs only"
        return None

    def remedy(self, device: torch.device) -> str:
        """How to install it."""
        if device.type == "cuda":
            return (
                "in that host's environment: pip install 'paretopipe[onnxruntime]', then "
                "pip uninstall onnxruntime and pip install onnxruntime-gpu (of the GPU's CUDA version); or engine fused"
            )
        return (
            "pip install 'paretopipe[onnxruntime]'; a provisioned host: paretopipe_extras: [onnxruntime] in the "
            "inventory, then ansible-playbook playbooks/provision.yml"
        )

    def build(self, stage: StageToBuild) -> Compute:
        """Open a session; exporting comes first where the cache has no such stage. Raises EngineError."""
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"onnxruntime cannot be imported: {error}", self.remedy(stage.device)) from error
        if stage.device.type == "cuda":
            if _CUDA not in onnxruntime.get_available_providers():
                raise EngineError("the installed onnxruntime has no CUDA provider", self.remedy(stage.device))
            return _compute_on_gpu(onnxruntime, stage)
        session = _open(onnxruntime, stage, ["CPUExecutionProvider"])
        return _Run(session, stage.device)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _open(ort: Any, stage: StageToBuild, providers: list[Any]) -> onnxruntime.InferenceSession:
    """A session with the stage's weights; the stage itself is left without any, so that nothing is held twice."""
    graph = exported(stage)
    options = ort.SessionOptions()
    options.intra_op_num_threads = stage.threads
    options.inter_op_num_threads = 1
    # A stage shares its cores with the threads that receive and send: threads that wait must not spin.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # One block for all activations of a batch saves no time here, and takes 1.7 x the memory (VGG16).
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if stage.device.type == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    state = stage.module.state_dict()
    try:
        values = [ort.OrtValue.ortvalue_from_numpy(state[name].numpy()) for name in graph.tensors]
        if values:
            options.add_external_initializers(list(graph.tensors), values)
        session: onnxruntime.InferenceSession = ort.InferenceSession(graph.model, options, providers=providers)
    except Exception as error:
        raise EngineError(
            f"onnxruntime {ort.__version__} cannot take this stage: {first_line(error)}", "choose another engine"
        ) from error
    session.disable_fallback()
    # Graph modules live in cycles: without this their tensors would stay until the next collection.
    stage.module.to_empty(device="meta")
    return session


class _Run:
    """Runs a session on tensors where they lie, into a new tensor each time: an earlier result may still be sent."""

    def __init__(self, session: onnxruntime.InferenceSession, device: torch.device) -> None:
        self._session = session
        self._device = device
        (output,) = session.get_outputs()
        if output.type not in _TORCH_TYPES or not all(isinstance(size, int) for size in output.shape):
            raise EngineError(f"an exported stage gives {output.type} {output.shape}", "choose another engine")
        self._shape, self._dtype = tuple(output.shape), _TORCH_TYPES[output.type]
        self._binding = session.io_binding()

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Any layout in, contiguous out."""
        tensor = tensor.contiguous()
        result = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        self._binding.bind_input(INPUT, *self._memory(tensor))
        self._binding.bind_output(OUTPUT, *self._memory(result))
        self._session.run_with_iobinding(self._binding)
        return result

    def _memory(self, tensor: torch.Tensor) -> tuple[str, int, Any, tuple[int, ...], int]:
        element = torch.empty(0, dtype=tensor.dtype).numpy().dtype.type
        return self._device.type, self._device.index or 0, element, tuple(tensor.shape), tensor.data_ptr()


def _compute_on_gpu(ort: Any, stage: StageToBuild) -> Compute:
    """The session gets a stream of its own, which waits for the caller's and the caller's for it."""
    stream = torch.cuda.Stream(stage.device)  # type: ignore[no-untyped-call]
    # No TensorFloat-32, its default: see `device.exact_float32`.
    options = {
        "device_id": str(stage.device.index or 0),
        "user_compute_stream": str(stream.cuda_stream),
        "use_tf32": "0",
    }
    session = _open(ort, stage, [(_CUDA, options)])
    if session.get_providers()[0] != _CUDA:
        raise EngineError(
            f"onnxruntime {ort.__version__} cannot use the GPU (its CUDA libraries do not load)",
            "install the onnxruntime-gpu that matches this host's CUDA, or choose engine fused",
        )
    run = _Run(session, stage.device)

    def compute(tensor: torch.Tensor) -> torch.Tensor:
        caller = torch.cuda.current_stream(stage.device)
        tensor = tensor.contiguous()
        stream.wait_stream(caller)
        with torch.cuda.stream(stream):
            result = run(tensor)
        caller.wait_stream(stream)
        tensor.record_stream(stream)
        result.record_stream(caller)
        return result

    return compute
