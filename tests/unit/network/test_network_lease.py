import os
import pwd
import subprocess
import time
from dataclasses import replace

import pytest

from paretopipe_runtime.network.errors import LeaseError, NetworkError
from paretopipe_runtime.network.lease import age_s, grant, now_s, renew
from paretopipe_runtime.network.processes import identify

ME = pwd.getpwuid(os.getuid()).pw_name


def test_a_lease_ages_until_it_is_renewed(directory, shaping, tmp_path):
    directory.write(shaping)
    grant(directory, ME)
    time.sleep(0.2)
    assert 0.2 <= age_s(directory) < 0.4
    renew(tmp_path)
    assert age_s(directory) < 0.1
    assert directory.lease.stat().st_uid == os.getuid()


def test_every_time_has_the_same_width(directory):
    grant(directory, ME)
    text = directory.lease.read_text()
    assert len(text) == 21
    assert float(text) == pytest.approx(now_s(), abs=1)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-inf", "99999999999"])
def test_what_is_no_time_that_has_been_is_no_lease(directory, text):
    directory.lease.write_text(text)
    assert age_s(directory) is None


def test_nothing_to_renew_says_why(directory, tmp_path):
    directory.guard_log.write_text("2026-01-01T00:00:00Z the lease was not renewed for 60 s: took p off data0\n")
    with pytest.raises(LeaseError, match=r"nothing is shaped on this host any more.*not renewed for 60 s"):
        renew(tmp_path)


def test_a_shaping_without_its_guard_is_not_renewed(directory, shaping, tmp_path):
    with subprocess.Popen(["sleep", "60"]) as process:
        guard = identify(process.pid)
        directory.write(replace(shaping, guard=guard))
        grant(directory, ME)
        renew(tmp_path)
        process.kill()
        process.wait()
    with pytest.raises(LeaseError, match="guard of this host's shaping is dead"):
        renew(tmp_path)


def test_an_unknown_owner_is_named(directory):
    with pytest.raises(NetworkError, match="no user 'nobody-here'"):
        grant(directory, "nobody-here")
    assert not directory.lease.exists()


def test_the_lease_is_not_followed_elsewhere(directory, shaping, tmp_path):
    """Whoever could plant a link could have a root agent overwrite any file."""
    directory.write(shaping)
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    directory.lease.symlink_to(precious)
    with pytest.raises(LeaseError, match="cannot renew"):
        renew(tmp_path)
    assert precious.read_text() == "untouched"
