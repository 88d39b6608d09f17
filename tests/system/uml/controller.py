"""A controller that keeps a lease alive: `controller.py PYTHON STATE_DIR SSH_WORD...`. Made to be killed.

It writes a line a second to a program on the far side of an ssh connection, which renews the lease at every line, as
the agent does on request of the controller. Prints `renewed` after the first.
"""

import subprocess
import sys
import time

RENEW = """
import sys
from pathlib import Path
from paretopipe_runtime.network.lease import renew
for line in sys.stdin:
    renew(Path(sys.argv[1]))
    print("renewed", flush=True)
"""


def main() -> None:
    python, state_dir, *ssh = sys.argv[1:]
    quoted = RENEW.replace("'", "'\\''")
    agent = subprocess.Popen(
        [*ssh, f"{python} -c '{quoted}' {state_dir}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while True:
        agent.stdin.write("renew\n")
        agent.stdin.flush()
        sys.stdout.write(agent.stdout.readline())
        sys.stdout.flush()
        time.sleep(1)


if __name__ == "__main__":
    main()
