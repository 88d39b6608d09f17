"""What happens to the messages of the rpc backend at both ends, without RPC."""

from __future__ import annotations

import importlib
import random
import threading
from typing import Any

import pytest
import torch

from paretopipe_runtime.transport import rpc_group
from paretopipe_runtime.transport.channel import payload_header, serialize
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import Header, Kind, StageTimes, encode
from paretopipe_runtime.transport.rpc_channel import Done, RpcReceiver, RpcSender
from paretopipe_runtime.transport.rpc_group import GroupSpec
from paretopipe_runtime.transport.rpc_inbox import Inbox, Relay, deliver, hop_token, register, relay, unregister
from paretopipe_runtime.transport.rpc_process import RpcProcess

TIMES = StageTimes(*range(len(StageTimes._fields)))
NOTHING = torch.empty(0, dtype=torch.uint8)


def message(batch_id: int, tensor: torch.Tensor) -> tuple[bytes, torch.Tensor]:
    return encode(payload_header(batch_id, serialize(tensor), (TIMES,))), tensor.flatten()


class Wire:
    """Calls that reach `inbox` when the test lets them."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.calls: list[tuple[int, bytes, torch.Tensor, Done]] = []

    def call(self, *call: Any) -> None:
        self.calls.append(call)  # type: ignore[arg-type]

    def let_go(self, index: int = 0) -> None:
        sequence, header, payload, done = self.calls.pop(index)
        done(self.inbox.put(sequence, header, payload.clone()), None)


@pytest.fixture
def wire() -> Wire:
    return Wire(Inbox(1 << 20))


def sender_on(wire: Wire, errors: list[TransportError]) -> RpcSender:
    return RpcSender(wire.call, "server", errors.append)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(5, 1).expand(5, 4),
        torch.randn(8, 8)[2:5, 1:7:2],
        torch.randn(3, 3).to(torch.bfloat16),
        torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8),
        torch.tensor(3.5),
        torch.empty(0, 4),
    ],
    ids=["contiguous", "channels_last", "expanded", "sliced", "bfloat16", "uint8", "scalar", "empty"],
)
def test_bits_and_strides_survive_and_nothing_else_travels(wire: Wire, tensor: torch.Tensor) -> None:
    sender = sender_on(wire, [])
    payload = sender.serialize(tensor)
    sender.send(7, payload, (TIMES,), lambda: None)
    flat = wire.calls[0][2]
    # RPC sends a tensor's whole storage.
    assert flat.untyped_storage().nbytes() == len(payload.data)
    wire.let_go()
    batch = RpcReceiver(wire.inbox).recv()
    assert batch is not None
    assert torch.equal(batch.tensor, tensor)
    assert (batch.tensor.stride(), batch.tensor.dtype) == (tensor.stride(), tensor.dtype)
    assert (batch.batch_id, batch.stages) == (7, (TIMES,))
    assert batch.recv_s != batch.recv_s  # RPC does not tell


def test_messages_come_out_in_the_order_they_were_sent(wire: Wire) -> None:
    sender = sender_on(wire, [])
    for batch_id in range(50):
        sender.send(batch_id, sender.serialize(torch.tensor([batch_id])), (), lambda: None)
    shuffled = random.Random(4)
    while wire.calls:
        wire.let_go(shuffled.randrange(len(wire.calls)))
    receiver = RpcReceiver(wire.inbox)
    received = [receiver.recv() for _ in range(50)]
    assert [batch.batch_id for batch in received if batch] == list(range(50))


def test_memory_is_given_back_when_the_call_is_done_and_not_before(wire: Wire) -> None:
    sender, released = sender_on(wire, []), []
    for batch_id in range(3):
        sender.send(batch_id, sender.serialize(torch.zeros(4)), (), lambda k=batch_id: released.append(k))  # type: ignore[misc]
    assert released == []
    wire.let_go(1)
    assert released == [1]


def test_a_failed_call_fails_the_stage_and_gives_memory_back(wire: Wire) -> None:
    errors: list[TransportError] = []
    released: list[bool] = []
    sender = sender_on(wire, errors)
    sender.send(0, sender.serialize(torch.zeros(4)), (), lambda: released.append(True))
    wire.calls[0][3](None, RuntimeError("EOF: end of file (this error originated at tensorpipe/x.cc:1)\nmore"))
    assert released == [True]
    assert (errors[0].kind, errors[0].message) == ("peer-lost", "sending to server by RPC failed: EOF: end of file")
    with pytest.raises(TransportError, match="EOF"):
        sender.send(1, sender.serialize(torch.zeros(4)), (), lambda: None)


def test_a_payload_larger_than_agreed_is_refused_at_both_ends() -> None:
    wire, errors = Wire(Inbox(100)), list[TransportError]()
    sender = sender_on(wire, errors)
    sender.send(0, sender.serialize(torch.zeros(26)), (), lambda: None)
    wire.let_go()
    with pytest.raises(TransportError, match="104 B announced, at most 100 B") as caught:
        wire.inbox.take()
    assert caught.value.kind == "bad-frame"
    assert "server refused" in errors[0].message


@pytest.mark.parametrize("fault", ["flipped bit", "short", "other size", "other type", "twice", "no tensor", "ping"])
def test_what_no_sender_of_ours_sends_is_refused(fault: str) -> None:
    inbox = Inbox(1 << 20)
    header, flat = message(0, torch.zeros(6))
    if fault == "twice":
        assert inbox.put(0, header, flat) is None
    wrong: dict[str, tuple[Any, Any]] = {
        "flipped bit": (header[:40] + bytes([header[40] ^ 1]) + header[41:], flat),
        "short": (header[:30], flat),
        "other size": (header, flat[:5]),
        "other type": (header, flat.view(torch.int32)),
        "no tensor": (header, b"x" * 24),
        "twice": (header, flat),
        "ping": (encode(Header(Kind.PING)), NOTHING),
    }
    assert inbox.put(0, *wrong[fault]) is not None
    with pytest.raises(TransportError) as caught:
        inbox.take()
    assert caught.value.kind == "bad-frame"


def test_an_inbox_holds_a_bounded_number_of_messages() -> None:
    inbox = Inbox(1 << 20, capacity=3)
    for sequence in range(3):
        assert inbox.put(sequence, *message(sequence, torch.zeros(2))) is None
    assert inbox.peak == 3
    assert "3 are waiting" in (inbox.put(3, *message(3, torch.zeros(2))) or "")


def test_the_end_comes_after_all_that_was_sent(wire: Wire) -> None:
    sender = sender_on(wire, [])
    sender.send(0, sender.serialize(torch.zeros(2)), (), lambda: None)
    ending = threading.Thread(target=sender.end)
    ending.start()
    while len(wire.calls) < 2:
        pass
    wire.let_go(1)
    ending.join()
    assert wire.inbox.ended
    wire.let_go(0)
    receiver = RpcReceiver(wire.inbox)
    first = receiver.recv()
    assert first is not None
    assert receiver.recv() is None


def test_closing_wakes_the_reader_and_drops_what_is_there(wire: Wire) -> None:
    receiver = RpcReceiver(wire.inbox)
    threading.Timer(0.05, receiver.close).start()
    with pytest.raises(TransportError) as caught:
        receiver.recv()
    assert caught.value.kind == "aborted"
    assert wire.inbox.put(0, *message(0, torch.zeros(2))) is None  # not refused: nobody is to blame
    assert not wire.inbox._waiting


def test_messages_of_a_cell_that_is_over_are_dropped_without_a_word() -> None:
    inbox, passed = Inbox(1 << 20), list[int]()
    token, through = hop_token("ab" * 32, 0, 1), hop_token("ab" * 32, 1, 2)
    register(token, inbox)
    register(through, Relay(lambda _token, sequence, _header, _payload: passed.append(sequence)))
    assert deliver(token, 0, *message(0, torch.zeros(2))) is None
    relay(through, 0, *message(0, torch.zeros(2)))
    unregister(token)
    unregister(through)
    assert deliver(token, 1, *message(1, torch.zeros(2))) is None
    relay(through, 1, *message(1, torch.zeros(2)))
    assert len(inbox._waiting) == 1
    assert passed == [0]


def test_tokens_differ_by_secret_and_hop() -> None:
    tokens = {hop_token(secret, *hop) for secret in ("ab" * 32, "cd" * 32) for hop in ((0, 1), (1, 0), (1, 2))}
    assert len(tokens) == 6


def test_a_torch_without_rpc_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_rpc_init")
    assert not rpc_group.available()
    spec = GroupSpec("a", 0, 2, ("uv",), ("basic",), "lo", "127.0.0.1")
    with pytest.raises(TransportError, match=r"has no torch\.distributed\.rpc") as caught:
        RpcProcess().keep_or_end(spec)
    assert caught.value.kind == "refused"
    assert "use backend socket" in (caught.value.remedy or "")


def test_only_one_module_touches_rpc() -> None:
    """So that a torch without it is noticed in one place."""
    package = importlib.import_module("paretopipe_runtime")
    from pathlib import Path

    root = Path(package.__file__ or "").parent
    found = [path.name for path in root.rglob("*.py") if "torch.distributed" in path.read_text()]
    assert "rpc_group.py" in found
    for path in root.rglob("*.py"):
        code = [line for line in path.read_text().splitlines() if line.startswith(("import", "from", "    import"))]
        assert path.name == "rpc_group.py" or not any("torch.distributed" in line for line in code), path
