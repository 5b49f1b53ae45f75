"""python -m launch render: scripts that bash and shellcheck accept, that mean what was asked, and refusals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from launch.memory import check_memory
from launch.quoting import file_pattern, sbatch_value
from launch.resources import Resources
from launch.time_limit import seconds_of
from smoe_ds.config import load_run
from smoe_ds.errors import LaunchError
from smoe_ds.planning.plan import make_plan
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_spec, write_spec
from tests.helpers.small_run import small_run, write_run

NASTY = ["plain", "a b", "it's", 'say "hi"', "co$t $HOME `id`", "50% #1", "ünïcode ж; & | <>", "-dash", "(p)[q]{r}*?!~"]
NASTY += ["@COMMAND@ @BODY@ @LOGS@", "%j%%t", "क्\u200dष", "می\u200cروم"]
BREAKS = ["\n", "\r", "\v", "\f", "\x1b", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
DISGUISES = ["\u200b", "\u200f", "\u202e", "\u2066", "\ufeff", "\udc80"]
Run = Any


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run.json", small_run(tmp_path / "run", tmp_path / "corpus"))


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["render", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["render", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def check_shell(script: str) -> None:
    syntax = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert syntax.returncode == 0, syntax.stderr
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def words_of_srun(script: str, folder: Path) -> list[str]:
    """What the script would hand to srun: run by bash with a program in its place that says so."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "srun").write_text('#!/bin/sh\nprintf "%s\\0" "$@" >"$SAID"\n')
    (programs / "srun").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SAID": str(folder / "said")}
    environment |= {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "n1"}
    done = subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "said").read_text().split("\0")[:-1]


@pytest.mark.parametrize("name", NASTY)
def test_any_name_and_override_comes_through(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file = write_run(folder / "run.json", small_run(folder / "run", folder / "corpus"))
    override = f"smoe.data.path={folder}/other"
    script = rendered(capsys, str(file), "--tasks-per-node", "2", "--time", "60", "--set", override)
    check_shell(script)
    words = words_of_srun(script, tmp_path)
    assert words[-4:] == ["train", str(file), "--set", override]
    pattern = f"--output={folder}/run/logs/7.start_0".replace("%", "%%") + "/task_%t.log"
    assert pattern in words
    assert (folder / "run/logs/7.start_0").is_dir()


def test_what_was_asked_is_in_the_script(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--nodes 2 --gpus-per-node 1 --gpu-type v100 --cpus-per-task 5 --mem 64G --time 1-12 --partition volta"
    more = "--account lab --qos long --constraint v100&ib --name mine --stop-before 600 --sbatch=--exclusive"
    script = rendered(capsys, str(run_file), *asked.split(), *more.split(), "--sbatch=--comment=two words")
    check_shell(script)
    lines = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert lines == {
        "nodes=2", "ntasks-per-node=1", "gpus-per-node=v100:1", "cpus-per-task=5", "mem=64G", "time=1-12", "requeue",
        "partition=volta", "account=lab", "qos=long", 'constraint="v100&ib"', "job-name=mine", "signal=USR1@600",
        "exclusive", 'comment="two words"', "open-mode=append", f"output={run_file.parent}/run/logs/job_%j.log",
    }  # fmt: skip
    assert f"{sys.executable} -m smoe_ds train {run_file}" in script
    assert "export DS_ACCELERATOR=cuda\n" in script and "/launch/nccl_env.sh" in script


def test_the_memory_of_a_host_is_that_of_the_plan(run_file: Path) -> None:
    offload = ["zero_optimization.stage=2", "zero_optimization.offload_optimizer.device=cpu"]
    config = load_run(run_file, offload)
    resources = Resources(
        "job", nodes=1, tasks_per_node=2, gpus_per_node=2, cpus_per_task=1, time="60", stop_before=300
    )
    on_host = 2 * make_plan(config, world_size=2).host_memory["total"]
    assert f", {on_host / 2**30:.2f} GiB on a host" in check_memory(config, resources, None)
    with pytest.raises(LaunchError, match=r"--mem .*: the plan needs"):
        check_memory(config, replace(resources, mem=f"{on_host // 2**10 - 1}K"), None)
    check_memory(config, replace(resources, mem=f"{on_host // 2**10 + 1}K"), None)


def test_a_job_without_gpus_stays_on_the_processors(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = rendered(capsys, str(run_file), "--tasks-per-node", "2", "--time", "60")
    assert "export DS_ACCELERATOR=cpu\n" in script and "nccl_env" not in script and "--gpus" not in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time", "60", "--tasks-per-node", "3"], "train_batch_size: 2 micro-batches a step cannot be shared by 3"),
        (["--time", "60", "--set", "smoe.moe.ep_size=2"], "smoe.moe.ep_size: 2 does not divide the 1 ranks"),
        (["--time", "60", "--set", "smoe.moe.stratta=[4]"], "did you mean smoe.moe.strata?"),
        (["--time", "60", "--gpus-per-node", "2", "--gpu-memory", "0.1"], "--gpu-memory 0.1: the plan needs"),
        (["--time", "60", "--tasks-per-node", "2", "--mem", "64M"], "--mem 64M: the plan needs"),
        (["--time", "soon"], "--time soon: expected minutes"),
        (["--time", "1:00:00:00"], "--time 1:00:00:00: expected minutes"),
        (["--time", "5"], "--time 5: is 300 s, and the run is told to stop 300 s before"),
        (["--time", "60", "--partition", "a b"], "--partition 'a b': expected a partition"),
        (["--time", "60", "--mem", "lots"], "--mem 'lots': expected memory per node"),
        (["--time", "60", "--gpu-type", "v100"], "--gpu-type v100: the job does not ask for a GPU"),
        (["--time", "60", "--nodes", "0"], "--nodes: 0: expected 1 or more"),
        (["--time", "60", "--sbatch=--signal=KILL@9"], "the script sets --signal itself"),
        (["--time", "60", "--sbatch=-x"], "expected a long option of sbatch"),
        (["--time", "60", "--gpus-per-node", "2", "--tasks-per-node", "4"], "each task has one GPU; leave out"),
        (["--time", "60", "--array", "4"], "--array is for --kind prepare and study, not for train"),
        (["--time", "60", "--mpi", "pmi2"], "--mpi is for --kind prepare, not for train"),
        (["--time", "60", "--venv", "/none"], "--venv /none: is not a virtual environment"),
        (["--time", "60", "--container", "/none.sif"], "--container /none.sif: no such image"),
        (["--time", "60", "--python", "/none", "--conda", "x"], "--python and --conda: each has its own Python"),
        (["--time", "60", "--set", "smoe.train.output_dir=a\nb"], "control character '\\n'"),
        (["--time", "60", "--set", "smoe.train.output_dir=a\\b"], "has a backslash"),
        (["--time", "60", "--", "--resume", "maybe"], "invalid choice: 'maybe'"),
        (["--time", "60", "--nccl-env", "/none"], "--nccl-env /none: no such file"),
        ([], "the following arguments are required: --time"),
    ],
)
def test_what_cannot_work_is_refused(
    arguments: list[str], message: str, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, str(run_file), *arguments)
    assert not (run_file.parent / "run").exists(), "nothing is made"


@pytest.mark.parametrize("character", [*BREAKS, *DISGUISES], ids=ascii)
@pytest.mark.parametrize("place", ["run folder", "run file", "override", "option", "module", "working folder"])
def test_no_name_becomes_a_line_of_the_script(
    place: str, character: str, run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them ended a line for some reader, or hid from people what stands there."""
    name, arguments = f"o{character}touch stolen #", ["--time", "60"]
    if place == "run folder":
        arguments += ["--set", f"smoe.train.output_dir={run_file.parent}/{name}"]
    elif place == "run file":
        run_file = run_file.rename(run_file.with_name(f"{name}.json"))
    elif place == "override":
        arguments += ["--set", f"smoe.data.path={name}"]
    elif place == "option":
        arguments += [f"--sbatch=--comment={name}"]
    elif place == "module":
        arguments += ["--module", name]
    else:
        (run_file.parent / name).mkdir()
        monkeypatch.chdir(run_file.parent / name)
    message = refused(capsys, str(run_file), *arguments)
    expected = f"has the control character {character!r}, which a script cannot contain"
    if character == "\udc80" and place in ("run folder", "override"):
        expected = "has half of a surrogate pair, which is not a character"  # --set is read first
    assert expected in message.replace("\\\\", "\\")
    assert character not in message.rstrip("\n")


def test_a_run_file_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/none.json: no such file" in refused(capsys, "/none.json", "--time", "60")


def test_only_rendered_files_are_written_over(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "job.sh"
    arguments = [str(run_file), "--time", "60", "--output", str(output)]
    for _ in range(2):
        assert main(["render", *arguments]) == 0
        assert f"submit it with: sbatch {output}" in capsys.readouterr().err
    output.write_text("three years of work")
    assert "exists and is not a rendered script" in refused(capsys, *arguments)
    assert output.read_text() == "three years of work"


def test_environments_are_activated(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    activate = tmp_path / "my env/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("SEEN=yes\n")
    script = rendered(
        capsys, str(run_file), "--time", "60", "--module", "cuda/12.8", "--venv", str(tmp_path / "my env")
    )
    check_shell(script)
    assert f"module load cuda/12.8\n# shellcheck disable=SC1091\n. '{activate}'\n" in script
    assert "  python -m smoe_ds train" in script
    script = rendered(capsys, str(run_file), "--time", "60", "--conda", "smoe env")
    check_shell(script)
    assert "eval \"$(conda shell.bash hook)\"\nconda activate 'smoe env'\nset -u" in script


def test_a_container_sees_what_it_needs(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "smoe.sif"
    image.touch()
    with_gpu = ["--time", "60", "--gpus-per-node", "1", "--container", str(image), "--bind", "/scratch"]
    script = rendered(capsys, str(run_file), *with_gpu, "--set", "smoe.data.path=/elsewhere/corpus")
    check_shell(script)
    words = words_of_srun(script, tmp_path)
    start = words.index("apptainer")
    binds = ["--bind", "/scratch", "--bind", str(tmp_path), "--bind", "/elsewhere/corpus"]
    container = ["apptainer", "exec", "--nv", *binds, "--pwd", str(Path.cwd()), str(image), "python", "-m", "smoe_ds"]
    assert words[start : start + len(container)] == container


def test_preparation_by_an_array_and_over_mpi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(write_spec(tmp_path, small_spec(tmp_path)))
    script = rendered(capsys, spec, "--kind", "prepare", "--array", "4", "--time", "60", "--", "--piece", "100")
    check_shell(script)
    assert "#SBATCH --array=1-4\n" in script and "#SBATCH --signal=TERM@300\n" in script
    assert words_of_srun(script, tmp_path)[-4:] == [spec, "--share", "--piece", "100"]
    script = rendered(capsys, spec, "--kind", "prepare", "--mpi", "pmix", "--tasks-per-node", "2", "--time", "60")
    check_shell(script)
    assert "--mpi=pmix" in script and "--share" not in script
    message = refused(capsys, spec, "--kind", "prepare", "--tasks-per-node", "2", "--time", "60")
    assert "they share the work over MPI (--mpi pmi2 or pmix" in message
    (tmp_path / "train.eng-nso.eng").unlink()
    assert "train.eng-nso.eng" in refused(capsys, spec, "--kind", "prepare", "--time", "60")


SMALL = str(ROOT / "ds_configs/studies/small.yaml")


def test_a_study_by_an_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--kind", "study", "--time", "60", "--set", f"smoe.data.path={tmp_path}", "--array", "3"]
    more = ["--gpus-per-node", "4", "--", "--jobs", "2", "--ranks", "2", "--output", str(tmp_path / "out")]
    assert main(["render", SMALL, *given, *more]) == 0
    script, said = capsys.readouterr()
    check_shell(script)
    assert said == f"{SMALL}: 18 runs of 10 systems\n"
    for line in ("array=1-3", "ntasks-per-node=1", "gpus-per-node=4", "cpus-per-task=16", "signal=USR1@300"):
        assert f"#SBATCH --{line}\n" in script
    study = ["study", SMALL, "--set", f"smoe.data.path={tmp_path}", *more[3:]]
    assert words_of_srun(script, tmp_path)[-len(study) :] == study
    assert (tmp_path / "out/logs").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "2"], "a run has all of its ranks on one host; leave out --nodes"),
        (["--gpus-per-node", "2", "--", "--jobs", "2", "--ranks", "2"], "at once need 4 GPUs, there are 2; lower it"),
        (["--", "--ranks", "3"], "2 micro-batches a step cannot be shared by 3 ranks"),
        (["--set", "smoe.moe.top_k=9"], "small.yaml: vanilla: "),
        (["--gpus-per-node", "1", "--gpu-memory", "0.01"], "--gpu-memory 0.01: the plan needs"),
    ],
)
def test_a_study_that_cannot_work_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, SMALL, "--kind", "study", "--time", "60", *arguments)


def test_a_target_of_another_kind_is_named(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec(tmp_path, small_spec(tmp_path))
    for target, kind, message in [
        (str(spec), "train", f"{spec}: is a specification of a corpus, which --kind train cannot use; to prepare it, "
         "write --kind prepare"),
        ("m15", "train", "m15: is the name of a known corpus, which --kind train cannot use"),
        (str(run_file), "prepare", f"{run_file}: is a run file, which --kind prepare cannot use; to train it, leave "
         "out --kind"),
        (str(ROOT / "ds_configs/m4.json"), "evaluate", "is a run file, which --kind evaluate cannot use"),
        (SMALL, "prepare", "small.yaml: is a study, which --kind prepare cannot use; to run it, write --kind study"),
        (str(tmp_path), "train", f"{tmp_path}: is a folder, which --kind train cannot use; to evaluate it, write"),
    ]:  # fmt: skip
        assert message in refused(capsys, target, "--kind", kind, "--time", "60")


@pytest.mark.parametrize(
    ("engine", "gpus", "noted"), [("cpu_fp32", 1, True), ("cpu_fp32", 0, False), ("h200_bf16_zero1", 1, False)]
)
def test_an_engine_for_cpus_on_gpus_is_noted(
    engine: str, gpus: int, noted: bool, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extends = f"extends={ROOT}/ds_configs/engine/{engine}.json"
    arguments = [str(run_file), "--time", "60", "--gpus-per-node", str(gpus), "--set", extends]
    assert main(["render", *arguments]) == 0
    assert ("trains in fp32, as the engine files for CPUs do" in capsys.readouterr().err) == noted


def test_evaluation_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.json" in refused(capsys, str(tmp_path), "--kind", "evaluate", "--time", "60")


def test_a_start_that_adds_nothing_is_not_requeued(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = rendered(capsys, str(run_file), "--time", "60")
    run, programs = run_file.parent / "run", tmp_path / "programs"
    latest = run / "checkpoints/latest"
    for srun, code, requeued in [
        ("exit 75", 1, False),
        (f"mkdir -p {latest.parent}; echo step_5 >{latest}; exit 75", 75, True),
        ("exit 75", 1, False),
        (f"echo step_6 >{latest}; touch {run}/STOPPED; exit 75", 75, False),
        (f"echo step_7 >{latest}; exit 137", 137, False),
    ]:
        programs.mkdir(exist_ok=True)
        for name, text in {"srun": srun, "scontrol": f"echo $@ >>{tmp_path}/said"}.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        environment |= {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1"}
        done = subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=False)
        said = tmp_path / "said"
        assert (done.returncode, said.exists()) == (code, requeued), (srun, done.stdout, done.stderr)
        if requeued:
            assert said.read_text() == "requeue 7\n"
            said.unlink()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("2:30", 150), ("24:00:00", 86400), ("1-12", 129600), ("2-00:30", 174600), ("1-00:00:01", 86401)],
)
def test_time_limits(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "1:60", "1:2", "00:00:00", "1-24", "1-2-3", "24h", "1.5"])
def test_what_is_no_time_limit(text: str) -> None:
    with pytest.raises(LaunchError, match="--time"):
        seconds_of(text)


def test_values_of_sbatch_lines() -> None:
    assert sbatch_value("a/b_%j.log") == "a/b_%j.log"
    assert sbatch_value('a "b" #c') == '"a \\"b\\" #c"'
    assert file_pattern("50%") == "50%%"
