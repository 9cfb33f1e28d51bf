"""A run is never lost: killed, out of disk, of pictures, of workers or of patience, it ends and goes on as said."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, draw_dataset, environment, focal
from tiny_training import CPU, SETUP, Display, assert_same_weights, at_step, draw, lines, stop, train
from torch.utils.data import DataLoader

from focalcli import coco
from focalcli.errors import FocalError
from focalcli.training import checkpoint, loop, metrics, predict, run
from focalcli.training import data as loading
from focalcli.training.description import Sampling
from focalcli.training.schedule import Schedule


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


@pytest.fixture(autouse=True)
def every_step_is_reported(monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)


# every step is saved, so that about half of the kills come while a checkpoint is written; sgd's are the smaller ones
SAVING = replace(SETUP, schedule=Schedule(epochs=4, lr=0.001, eval_every=2, save_steps=1, keep=2, ema=0.9))


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.safetensors"


def steps_done(folder: Path) -> int:
    return checkpoint.load(last(folder)).meta["progress"]["step"]


# ------------------------------------------------------------------------------------------------------------ kill -9


def run_or_resume(folder: Path, json: Path, setup) -> None:
    """In a process of its own: go on where the one before was killed."""
    run.train(
        setup, *[coco.load(json)] * 2, folder, recipe={}, device=CPU, resume=last(folder).is_file(), display=Display()
    )


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Where processes come from that have imported torch, and computed nothing yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_faults"])
    return context


def in_process(folder: Path, data, setup=SAVING) -> multiprocessing.Process:
    """A training in a process of its own."""
    child = forkserver().Process(target=run_or_resume, args=(folder, data.path, setup))
    child.start()
    return child


def kill_until_it_ends(folder: Path, data, seconds: float, kills: int, seed: int) -> int:
    """Start the run again and again, killing it at random moments; returns how many kills met it at work.

    Args:
        seconds: that it takes when nothing stops it.
    """
    rng, met = random.Random(seed), 0
    folder.mkdir()
    for _ in range(kills):
        child = in_process(folder, data)
        child.join(rng.uniform(0.1, 0.8) * seconds)
        met += child.is_alive()
        child.kill()
        child.join()
        if last(folder).is_file():
            checkpoint.load(last(folder))  # whole, whatever the moment
    child = in_process(folder, data)
    child.join()
    assert child.exitcode == 0
    return met


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """The folder of a run that nothing stopped, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("unbroken")
    first = forkserver().Process(target=str)  # waits for the server to import torch
    first.start()
    first.join()
    started = time.monotonic()
    child = in_process(folder, data)
    child.join()
    assert child.exitcode == 0
    return folder, time.monotonic() - started


def assert_same_run(folder: Path, other: Path) -> None:
    for name in ("last", "best"):
        assert_same_weights(folder, other, name)
    evaluations = [[line for line in lines(place) if line["kind"] == "eval"] for place in (folder, other)]
    assert evaluations[0] == evaluations[1]
    assert (folder / "results.csv").read_text() == (other / "results.csv").read_text()


def test_a_run_killed_at_random_moments_ends_with_the_weights_of_the_unbroken_one(unbroken, data, tmp_path):
    """SIGKILL, then --resume, on a CPU: bit for bit, with the same evaluations, each once."""
    whole, seconds = unbroken
    assert kill_until_it_ends(tmp_path / "r", data, seconds, kills=3, seed=int.from_bytes(os.urandom(4), "big"))
    assert_same_run(tmp_path / "r", whole)


@pytest.mark.slow
def test_a_run_killed_fifty_times_ends_with_the_weights_of_the_unbroken_one(unbroken, data, tmp_path):
    """Fifty kills, in ten runs that are killed five times each before they may end."""
    (whole, seconds), met = unbroken, 0
    for seed in range(10):
        met += kill_until_it_ends(tmp_path / str(seed), data, seconds, kills=5, seed=seed)
        assert_same_run(tmp_path / str(seed), whole)
    assert met >= 30


class Killed(BaseException):
    """What stops everything at once, as SIGKILL does."""


CUT = replace(SETUP, schedule=Schedule(epochs=2, lr=0.001, eval_every=2, save_steps=1, keep=2))


@pytest.fixture(scope="module")
def uncut(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncut")
    train(folder, data, CUT)
    return folder


@pytest.mark.parametrize(
    ("module", "call", "when", "step"),
    # the step that `last` is of when everything ends there in the save after the third
    [(checkpoint, "save_file", "before", 2), (os, "fsync", "before", 2), (os, "replace", "before", 2),
     (os, "replace", "after", 3), (os, "link", "before", 3)],
)  # fmt: skip
def test_a_save_cut_anywhere_leaves_a_checkpoint_to_go_on_from(
    data, uncut, tmp_path, monkeypatch, module, call, when, step
):
    """Between write and rename, and at each other call of a save: `last` is the old one or the new one."""
    honest = getattr(module, call)

    def cut(*args, **kwargs):
        if when == "after":
            honest(*args, **kwargs)
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, data, CUT, at=at_step(3, lambda: monkeypatch.setattr(module, call, cut)))
    monkeypatch.setattr(module, call, honest)
    assert steps_done(tmp_path) == step
    train(tmp_path, data, CUT, resume=True)
    assert_same_weights(tmp_path, uncut)


# ---------------------------------------------------------------------------------------------------------- checkpoints


def test_the_last_checkpoints_are_kept_under_their_steps(data, tmp_path):
    """`schedule.keep: 3`: the three latest, each a whole checkpoint; the newest is `last` itself, not a copy."""
    train(tmp_path, data, replace(SETUP, schedule=Schedule(epochs=2, lr=0.001, save_steps=1, eval_every=2, keep=3)))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.safetensors", "last.safetensors", *(f"step-{n}.safetensors" for n in (2, 3, 4))]
    for number in (2, 3, 4):
        kept = checkpoint.load(tmp_path / f"checkpoints/step-{number}.safetensors")
        assert kept.meta["progress"]["step"] == number and kept.optimizer
    assert last(tmp_path).samefile(tmp_path / "checkpoints/step-4.safetensors")


def test_minutes_decide_when_a_checkpoint_is_due(data, tmp_path):
    """Besides the ends of epochs, steps 2 and 4: nothing within five minutes, every step when none may pass."""
    for minutes, kept in ((5.0, [2, 4]), (1e-9, [1, 2, 3, 4])):
        schedule = Schedule(epochs=2, lr=0.001, eval_every=2, keep=9, save_minutes=minutes)
        train(tmp_path / str(minutes), data, replace(SETUP, schedule=schedule))
        names = {path.name for path in (tmp_path / str(minutes) / "checkpoints").glob("step-*")}
        assert names == {f"step-{number}.safetensors" for number in kept}


def test_a_disk_without_links_gets_copies(data, tmp_path, monkeypatch):
    """FAT and some network disks: EPERM."""

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    train(tmp_path, data, replace(SETUP, schedule=replace(SETUP.schedule, epochs=1, eval_every=1, keep=2)))
    copy = tmp_path / "checkpoints/step-2.safetensors"
    assert copy.read_bytes() == last(tmp_path).read_bytes() and not copy.samefile(last(tmp_path))


def test_an_unreadable_last_checkpoint_names_the_newest_readable_one(data, tmp_path):
    """A truncated copy, a bad block: the command to go on with is in the hint, and works."""
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=2, eval_every=2, save_steps=1, keep=3))
    train(tmp_path, data, setup)
    whole = last(tmp_path).read_bytes()
    for name in ("last", "step-4"):
        place = tmp_path / f"checkpoints/{name}.safetensors"
        place.unlink()
        place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FocalError, match=r"last\.safetensors: not a readable checkpoint, or cut short") as caught:
        train(tmp_path, data, setup, resume=True)
    kept = tmp_path / "checkpoints/step-3.safetensors"
    assert caught.value.hint == f"the newest readable one is of step 3: `cp {kept} {last(tmp_path)}`, then --resume"
    shutil.copy(kept, last(tmp_path))
    assert [report.step for report in train(tmp_path, data, setup, resume=True).steps] == [4]


def test_an_unreadable_last_checkpoint_alone_is_said(data, tmp_path):
    """`best` has no optimizer, so there is nothing to go on from."""
    train(tmp_path, data, replace(SETUP, schedule=replace(SETUP.schedule, epochs=1)))
    last(tmp_path).write_bytes(b"")
    with pytest.raises(FocalError, match="not a readable checkpoint") as caught:
        train(tmp_path, data, replace(SETUP, schedule=replace(SETUP.schedule, epochs=1)), resume=True)
    assert "another one of the run's checkpoints" in caught.value.hint


def test_a_checkpoint_of_an_earlier_focal_is_not_resumed(data, tmp_path):
    """Format 1 lacks what a resume needs; it can still be evaluated."""
    train(tmp_path, data, replace(SETUP, schedule=replace(SETUP.schedule, epochs=1)))
    saved = checkpoint.load(last(tmp_path))
    model = run.load_trained(tmp_path, CPU).model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 1)
        checkpoint.save(last(tmp_path), model, {k: v for k, v in saved.meta.items() if k != "format"})
    with pytest.raises(FocalError, match=r"cannot be resumed, an earlier focal wrote it \(format 1\)"):
        train(tmp_path, data, replace(SETUP, schedule=replace(SETUP.schedule, epochs=1)), resume=True)
    assert run.load_trained(last(tmp_path), CPU).classes


# -------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_very_first_step_finishes_and_saves_it(data, tmp_path, monkeypatch, signum, code):
    """While the loader starts, before there is anything to save."""
    honest = loop.batches

    def slow_start(loader):
        stop(signum)()
        yield from honest(loader)

    monkeypatch.setattr(loop, "batches", slow_start)
    with pytest.raises(loop.Interrupted, match="after step 1 of 8, saved") as stopped:
        train(tmp_path, data)
    assert stopped.value.exit_code == code and steps_done(tmp_path) == 1


def stopped_before_it_is_ready(worker: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    loading.leave_signals_to_parent(worker)


def test_a_signal_does_not_end_a_worker_that_is_not_ready_yet():
    """torch gives its workers a handler that ends them, some milliseconds before ours can ignore the signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loader = DataLoader([1, 2], num_workers=1, worker_init_fn=stopped_before_it_is_ready)
    assert torch.cat(list(loading.batches(loader))).tolist() == [1, 2]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


class LargePictures(torch.utils.data.Dataset):
    """More than a pipe holds; each leaves the id of the process that loaded it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> np.ndarray:
        (self.folder / str(os.getpid())).touch()
        return np.zeros(1 << 20, np.uint8)


def load_and_wait(folder: Path) -> None:
    loader = DataLoader(
        LargePictures(folder), num_workers=2, collate_fn=list, worker_init_fn=loading.leave_signals_to_parent
    )
    source = loading.batches(loader)
    next(source)
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes are there")
def test_no_worker_outlives_a_killed_process(tmp_path):
    """SIGKILL of a training or evaluation: its workers would wait for a reader, and hold their memory, for ever."""
    child = forkserver().Process(target=load_and_wait, args=(tmp_path,))
    child.start()
    while len(list(tmp_path.iterdir())) < 2:
        assert child.is_alive()
        time.sleep(0.05)
    time.sleep(0.2)
    child.kill()
    child.join()
    stats = [Path(f"/proc/{file.name}/stat") for file in tmp_path.iterdir()]
    deadline = time.monotonic() + 30
    while any(stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z" for stat in stats):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when a worker starts")
def test_a_signal_while_the_loading_processes_start_is_obeyed_and_nothing_is_lost(tmp_path):
    """SIGTERM to the whole group, as a cluster sends it, at moments around the start of the workers: 143, and saved."""
    draw_dataset(tmp_path / "data")
    focal("recommend", tmp_path / "data", "-o", tmp_path / "r.yaml", "--device", "cpu", *TINY)
    long = ["data.workers=2", "schedule.epochs=500", "eval.every=500"]
    for number, delay in enumerate((0, 0.003, 0.01, 0.03)):
        words = ["train", tmp_path / "r.yaml", *long, f"name={number}", "--runs", tmp_path / "runs", "--device", "cpu"]
        command = [sys.executable, "-m", "focalcli", *map(str, words)]
        with subprocess.Popen(
            command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as child:  # fmt: skip
            next((line for line in child.stderr if line.startswith("an epoch shows")), None)
            workers = Path(f"/proc/{child.pid}/task/{child.pid}/children")
            while child.poll() is None and not workers.read_text():  # from that line on nothing else is started
                time.sleep(0.0005)
            assert child.returncode is None, child.stderr.read()
            time.sleep(delay)
            os.killpg(child.pid, signal.SIGTERM)
            said = child.stderr.read()
        assert child.returncode == 143, said
        assert "stopped by SIGTERM after step " in said and "--resume" in said
        assert "Traceback" not in said
        assert steps_done(tmp_path / "runs" / str(number)) >= 1
        with pytest.raises(ProcessLookupError):  # no worker outlives it
            os.killpg(child.pid, 0)


def test_a_signal_during_the_evaluation_ends_it_and_the_resumed_run_repeats_it(data, tmp_path, monkeypatch):
    """A machine that is taken away gives half a minute, and an evaluation may take longer: it is given up."""
    setup = replace(SETUP, schedule=Schedule(epochs=2, lr=0.001, eval_every=1))
    train(tmp_path / "whole", data, setup)
    honest, calls = predict._select, []

    def signalled(*args):
        calls.append(args)
        if len(calls) == 1:
            stop(signal.SIGTERM)()
        return honest(*args)

    monkeypatch.setattr(predict, "_select", signalled)
    with pytest.raises(loop.Interrupted, match="stopped by SIGTERM after step 2 of 4, saved") as stopped:
        train(tmp_path / "cut", data, setup)
    assert stopped.value.exit_code == 143 and [line["kind"] for line in lines(tmp_path / "cut")] == ["train"] * 2
    train(tmp_path / "cut", data, setup, resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


# --------------------------------------------------------------------------------------------------------------- faults


def full_from_now(limit: int) -> None:
    """No file of this process may grow beyond the limit: EFBIG, as a full disk gives ENOSPC."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_fills_up_ends_the_run_with_the_checkpoint_before(data, tmp_path):
    """A real limit of the operating system, reached inside the second save: exit 2, and the first save is whole."""
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=2, eval_every=2, save_steps=1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(FocalError, match=r"last\.safetensors: cannot be written") as caught:
            train(tmp_path, data, setup, at=at_step(2, lambda: full_from_now(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "the checkpoint before it is still there" in caught.value.hint
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.safetensors"]
    assert steps_done(tmp_path) == 1
    assert [report.step for report in train(tmp_path, data, setup, resume=True).steps] == [2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanishes_is_named_and_the_run_can_go_on(tmp_path, workers):
    """Somebody tidies up: the picture's path, exit 2, the last checkpoint; put back, the run goes on."""
    data = coco.load(draw(tmp_path / "data"))
    plain = Schedule(epochs=30, lr=0.002, eval_every=30)
    setup = replace(SETUP, workers=workers, sampling=Sampling(), schedule=plain)
    victim = data.image_path(3)
    content = victim.read_bytes()
    with pytest.raises(FocalError, match=rf"{victim.name}: no such picture \(image 104 of "):
        train(tmp_path / "r", data, setup, at=at_step(2, victim.unlink))
    done = steps_done(tmp_path / "r")
    assert 2 <= done < 60
    victim.write_bytes(content)
    short = at_step(done + 1, stop())
    with pytest.raises(loop.Interrupted, match=f"after step {done + 1} of 60"):
        train(tmp_path / "r", data, setup, resume=True, at=short)


def kill_a_worker() -> None:
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def test_a_worker_killed_by_the_system_is_said(data, tmp_path):
    """What the kernel does when memory runs out: exit 2, with the keys that need less, and the last checkpoint."""
    setup = replace(SETUP, workers=1, schedule=replace(SETUP.schedule, epochs=30, eval_every=30))
    with pytest.raises(FocalError, match="a process that loads pictures ended unexpectedly") as caught:
        train(tmp_path, data, setup, at=at_step(3, kill_a_worker))
    assert "data.workers=0" in caught.value.hint and steps_done(tmp_path) >= 2


def test_a_full_disk_while_the_log_is_written_leaves_the_table_before(tmp_path, monkeypatch):
    """results.csv is written aside and moved: the evaluations so far stay readable."""
    log = metrics.MetricsLog(tmp_path / "metrics.jsonl", 0, 0)
    log.write({"kind": "eval", "step": 1, "AP": 0.5, "classes": {}})
    before = (tmp_path / "results.csv").read_text()

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FocalError, match=r"results.csv: cannot be written \(No space left on device\)"):
        log.write({"kind": "eval", "step": 2, "AP": 0.6, "classes": {}})
    assert (tmp_path / "results.csv").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "results.csv"]
    (tmp_path / "full.jsonl").symlink_to("/dev/full")  # a device that takes nothing
    log.path = tmp_path / "full.jsonl"
    with pytest.raises(FocalError, match=r"full.jsonl: cannot be written \(No space left on device\)"):
        log.write({"kind": "train", "step": 3})


# ----------------------------------------------------------------------------------------------------- early stop, best


def scoring(monkeypatch, values):
    """Let the evaluations come out as given: AP, and the APs of green."""
    given = iter(values)

    def figures(_table):
        ap, green = next(given)
        return {"AP": ap, "AP50": None, "APs": ap, "classes": {"red": 0.1, "green": green}}

    monkeypatch.setattr(run, "_figures", figures)


LONG = replace(SETUP, schedule=Schedule(epochs=6, lr=0.001, eval_every=1))


def test_a_run_without_progress_stops_early_and_stays_stopped(data, tmp_path, monkeypatch):
    """`schedule.patience: 2`: the best was the second, so the fourth is the last; with more patience it goes on."""
    patient = replace(LONG, schedule=replace(LONG.schedule, patience=2))
    scoring(monkeypatch, [(0.1, 0), (0.3, 0), (0.3, 0), (0.2, 0), (0.2, 0), (0.4, 0)])
    display = train(tmp_path, data, patient)
    assert len(display.steps) == 8 and "stopped early: no better AP in 2 evaluations" in display.notes
    assert checkpoint.load(tmp_path).meta["progress"]["best_epoch"] == 2
    assert train(tmp_path, data, patient, resume=True).steps == []
    more = replace(LONG, schedule=replace(LONG.schedule, patience=4))
    assert len(train(tmp_path, data, more, resume=True).steps) == 4
    assert checkpoint.load(tmp_path).meta["progress"]["best_epoch"] == 6


def test_the_best_can_be_that_of_one_class(data, tmp_path, monkeypatch):
    """`eval.best: class:green`; AP alone would choose another epoch."""
    scoring(monkeypatch, [(0.1, 0.2), (0.3, 0.1)])
    train(tmp_path, data, replace(LONG, schedule=replace(LONG.schedule, epochs=2, best="class:green")))
    progress = checkpoint.load(tmp_path).meta["progress"]
    assert (progress["best"], progress["best_epoch"]) == (0.2, 1)


@pytest.mark.parametrize(
    ("best", "says", "hint"),
    [
        ("class:gren", "no class 'gren' with objects in the training set", "did you mean class:green?"),
        ("class:zzz", "no class 'zzz'", "the trained classes are 'red', 'green'"),
        ("APl", "APl is undefined on .*train.json: it has no such objects", "choose AP"),
        ("APr", "", ""),
    ],
)
def test_a_best_that_has_no_value_is_refused_before_the_training(data, tmp_path, best, says, hint):
    """By hand: the squares have sides of 14 to 27 px, so none is large (96 px); green is in 2 pictures: rare (LVIS)."""
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=1, best=best))
    if not says:
        train(tmp_path, data, setup)
        return
    with pytest.raises(FocalError, match=f"eval.best: {says}") as caught:
        train(tmp_path, data, setup)
    assert hint in caught.value.hint and not (tmp_path / "metrics.jsonl").exists()


def test_a_class_without_objects_in_val_is_no_measure(data, tmp_path):
    """Its AP is undefined at every evaluation."""
    (tmp_path / "val").mkdir()
    val = coco.load(draw(tmp_path / "val", pictures=4))
    only_red = replace(val, iscrowd=val.box_label == 1)
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=1, best="class:green"))
    with pytest.raises(FocalError, match="has no object of 'green' to score"):
        train(tmp_path / "r", data, setup, val=only_red)
