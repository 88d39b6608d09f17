"""Measure a link between two hosts: `probe.py receive ADDRESS PORT BYTES` and `probe.py send ADDRESS PORT BYTES`.

Standard library only. The receiver counts: it prints the bits per second of the second half of the bytes. What a
sender's buffers swallow is no bandwidth, and the first half leaves room for TCP's slow start.
"""

import socket
import sys
import time


def receive(address: str, port: int, nbytes: int) -> None:
    with socket.create_server((address, port)) as server:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        connection, _ = server.accept()
        with connection:
            total = 0
            while total < nbytes // 2:
                total += len(connection.recv(65536))
            start, first = time.monotonic(), total
            while data := connection.recv(65536):
                total += len(data)
                end = time.monotonic()
    sys.stdout.write(f"{(total - first) * 8 / (end - start)}\n")


def send(address: str, port: int, nbytes: int) -> None:
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(bytes(nbytes))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the receiver's end of file: all has arrived


if __name__ == "__main__":
    {"receive": receive, "send": send}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
