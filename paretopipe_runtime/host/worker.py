"""The process that owns torch on a host. Its agent starts it, feeds it requests, and survives it.

It runs one operation at a time in the main thread (where the computation belongs); `abort` and the end of the
control stream are handled by the thread that reads requests.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

from paretopipe_runtime.allocator import choice as allocator
from paretopipe_runtime.host.protocol import MessageWriter, ProtocolError, error_object, read_messages

JsonObject = dict[str, Any]


def main() -> None:
    """Start with one JSON argument: `{"host": name, "cpus": [0], "threads": 1, "device": "cpu", "engine": "best"}`."""
    settings = json.loads(sys.argv[1])
    if settings["cpus"]:
        os.sched_setaffinity(0, settings["cpus"])
    # Only messages may reach the agent's pipe: whatever else prints goes to the log.
    control = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    writer = MessageWriter(control)

    allocator.settle(os.environ)

    import torch

    torch.set_num_threads(settings["threads"])
    torch.set_num_interop_threads(1)
    torch.set_grad_enabled(False)

    from paretopipe_runtime.host.operations import Operations
    from paretopipe_runtime.model.memory import keep

    keep()
    operations = Operations(settings["host"], writer.write, settings["device"], settings["engine"])
    requests: queue.SimpleQueue[JsonObject] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, operations), name="control", daemon=True).start()
    writer.write({"event": "ready", "facts": operations.facts({})})
    while True:
        request = requests.get()
        writer.write({"id": request["id"], **_perform(operations, request)})


def _read(requests: queue.SimpleQueue[JsonObject], operations: Any) -> None:
    try:
        for request in read_messages(sys.stdin.buffer):
            if request["op"] == "abort":
                operations.abort()
            else:
                requests.put(request)
    except ProtocolError as error:
        sys.stderr.write(f"worker: {error}\n")
    # Without an agent there is nobody to work for; the main thread may be deep in a computation.
    os._exit(0)


def _perform(operations: Any, request: JsonObject) -> JsonObject:
    import torch

    from paretopipe_runtime.host.operations import OPERATIONS, RequestError
    from paretopipe_runtime.model.engines.base import EngineError
    from paretopipe_runtime.model.errors import ModelError, first_line
    from paretopipe_runtime.pipeline.inputs import InputError
    from paretopipe_runtime.pipeline.stage_loop import ComputeError
    from paretopipe_runtime.transport.errors import TransportError

    if request["op"] not in OPERATIONS:
        return {"error": error_object("request", f"unknown operation {request['op']!r}", "use one paretopipe version")}
    try:
        return {"result": getattr(operations, request["op"])(request["params"])}
    except TransportError as error:
        return {"error": error_object(error.kind, error.message, error.remedy)}
    except EngineError as error:
        return {"error": error_object("engine", error.message, error.remedy)}
    except ModelError as error:
        return {"error": error_object("model", str(error))}
    except InputError as error:
        return {"error": error_object("input", str(error))}
    except (ComputeError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
        return {"error": _compute_error(first_line(error))}
    except RequestError as error:
        return {"error": error_object("request", str(error))}
    except Exception as error:  # noqa: BLE001 - the last line of defence: a fault fails its cell, not the run
        import traceback

        traceback.print_exc()  # to the log, which the record quotes
        return {"error": error_object("internal", f"{type(error).__name__}: {error}", "see the host's worker.log")}


def _compute_error(text: str) -> JsonObject:
    if "memory" in text.lower() and "illegal memory access" not in text:
        return error_object("out-of-memory", text or "out of memory", "use a smaller batch, or a later or earlier cut")
    return error_object("compute", text)


if __name__ == "__main__":
    main()
