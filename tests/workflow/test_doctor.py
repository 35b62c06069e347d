import pytest

from slipway import doctor
from slipway.doctor import Finding, cpu_finding, disk_finding, memory_finding, mmdebstrap_finding, run


@pytest.fixture
def cpuinfo(tmp_path):
    def write(flags):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        return path

    return write


def test_a_processor_without_avx_cannot_run_tensorflow(cpuinfo):
    assert cpu_finding(cpuinfo("fpu sse2")).state == "missing"
    assert "AVX" in cpu_finding(cpuinfo("fpu sse2")).detail
    assert cpu_finding(cpuinfo("fpu avx avx2")).state != "missing"


def test_little_memory_is_a_warning():
    assert memory_finding(1e9).state == "warning"
    assert memory_finding(16e9) == Finding("memory", "ok", "16.0 GB")


def test_a_place_is_judged_where_it_will_be(tmp_path, monkeypatch):
    assert disk_finding("disk", tmp_path / "not/yet/there").state in ("ok", "warning")
    monkeypatch.setattr(doctor, "_ENOUGH_DISK_BYTES", 1e18)
    assert disk_finding("disk", tmp_path).state == "warning"


def test_who_may_make_the_base(tmp_path, monkeypatch):
    (tmp_path / "mmdebstrap").write_text("#!/bin/sh\n")
    (tmp_path / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    subuid = tmp_path / "subuid"

    assert mmdebstrap_finding(0, subuid).state == "ok"
    assert "usermod" in mmdebstrap_finding(1000, subuid).detail
    subuid.write_text("me:100000:65536\n")
    assert mmdebstrap_finding(1000, subuid).state == "ok"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert mmdebstrap_finding(0, subuid).state == "missing"


def test_without_engines_each_is_told_and_what_follows(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.engines.shutil, "which", lambda name: "/bin/echo" if name == "echo" else None)
    findings = list(doctor.engine_findings())

    assert {finding.detail for finding in findings[:-1]} == {"not installed"}
    assert "plain local processes" in findings[-1].detail
    assert all(finding.state == "warning" for finding in findings)


def test_what_is_missing_fails_the_command_and_a_warning_does_not(monkeypatch, capsys):
    found = [Finding("memory", "warning", "1.0 GB"), Finding("Python", "ok", "3.11")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    run(None)
    assert "1.0 GB" in capsys.readouterr().out

    found.append(Finding("mmdebstrap", "missing", "not installed"))
    with pytest.raises(doctor.SlipwayDoctorError, match=r"missing: mmdebstrap\. `make setup`") as caught:
        run(None)
    assert caught.value.exit_code == 1


def test_the_real_machine_is_told_of_everything(monkeypatch):
    monkeypatch.setattr(doctor, "engine_findings", list)  # shown with real engines in test_engines.py
    findings = {finding.subject: finding for finding in doctor.examine()}

    assert {"Python", "processor", "memory", "GPU", "git", "mmdebstrap", "TensorFlow"} <= findings.keys()
    assert findings["TensorFlow"].state == "ok"
