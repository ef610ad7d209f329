"""A command on a terminal of its own."""
import os
import pty
import select
import subprocess
import termios
import time


def on_terminal(argv, env, answer="", timeout_s=60, columns=None):
    """Runs argv on a terminal of its own, of so many columns, types the answer when asked; returns the exit code and what was shown."""
    main, other = pty.openpty()
    if columns:
        termios.tcsetwinsize(main, (40, columns))
    child = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, env=env, start_new_session=True)
    os.close(other)
    shown, typed = b"", False
    poll = select.poll()  # not select: whoever filled a server has more than 1024 descriptors
    poll.register(main, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            if poll.poll(100):
                try:
                    block = os.read(main, 65536)
                except OSError:  # the last one has closed it
                    block = b""
                if not block:
                    break
                shown += block
            if not typed and b"to go on:" in shown:
                os.write(main, answer.encode() + b"\n")
                typed = True
        child.wait(10)
    finally:
        child.kill()
        os.close(main)
    return child.returncode, shown.decode(errors="replace")
