"""The command line, run as its users run it: in a process of its own."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import guidance_core as gc
from devtools.small_disk import NoDisk, small_disk
from guidance_core import demo
from guidance_core.__main__ import main
from guidance_core.assess.assessment import assess
from guidance_core.commands import Line, sentences
from guidance_core.data.shard_writer import write_shards
from guidance_core.data.shards import ShardSource
from guidance_core.demo.data import LABELS
from guidance_core.demo.train import CLASSIFIER_SETTINGS
from guidance_core.drawing.plot import BACKGROUND
from guidance_core.shapes import Power
from guidance_core.signals import stopped

ROOT = Path(gc.__file__).parents[1]
TINY = ["--batch", "8", "--device", "cpu"]


def process(*words, launcher=(), **options):
    """A command in a process of its own, its output to be read as text."""
    line = [sys.executable, "-W", "error", *launcher, "-m", "guidance_core", *map(str, words)]
    surroundings = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")}
    return subprocess.Popen(
        line,
        cwd=ROOT,
        env=surroundings | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def ran(capsys):
    """ran(*words): what a command wrote to stdout and to stderr, once it was done well."""

    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        written = capsys.readouterr()
        assert status == 0, written.err
        return written.out, written.err

    return run


@pytest.fixture(autouse=True)
def judged_quickly(monkeypatch):
    monkeypatch.setattr("guidance_core.commands.train.DRAWS", 1)


@pytest.fixture
def folder(tmp_path):
    """Pictures of two colours, and one that is none."""
    for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (20, 16), tuple(part + i for part in colour)).save(
                tmp_path / "pictures" / name / f"{i}.png"
            )
    (tmp_path / "pictures" / "red" / "broken.png").write_bytes(b"")
    return tmp_path / "pictures"


@pytest.fixture
def shards(tmp_path, randn):
    latents = randn(24, 4, 8, 8, dtype=torch.float32)
    examples = ((latent + i % 2, i % 2) for i, latent in enumerate(latents))
    list(write_shards(examples, tmp_path / "shards", ["dark", "bright"], latent_space="sd15"))
    return tmp_path / "shards"


# --- the frame --------------------------------------------------------------------------------------------------------


def test_every_command_is_listed_and_explains_itself(capsys):
    assert {"train", "sample"} <= sentences().keys()
    with pytest.raises(SystemExit):
        main(["--help"])
    listing = capsys.readouterr().out
    for name, sentence in sentences().items():
        assert name in listing
        assert re.fullmatch(r"[A-Z][^\n]*\.", sentence), f"the help of {name} is one sentence"
        with pytest.raises(SystemExit) as done:
            main([name, "--help"])
        assert done.value.code == 0
        assert f"python -m guidance_core {name}" in capsys.readouterr().out


def test_what_is_refused_is_one_sentence_and_status_2(tmp_path):
    with process("train", "--shards", tmp_path, "--out", tmp_path / "a.safetensors") as refused:
        written = refused.communicate()
    assert refused.returncode == 2
    assert written == ("", f"There are no latent shards in '{tmp_path}' (no index.json).\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--digits", "--out", "a.pt"], "must be a .safetensors file"),
        (["train", "--digits", "--out", "none/a.safetensors"], "in a folder that exists"),
        (["train", "--digits", "--out", "a.safetensors", "--steps", "0"], "steps must be in"),
        (["train", "--digits", "--out", "a.safetensors", "--augment", "blur"], "no augmentation 'blur'"),
        (["train", "--digits", "--out", "a.safetensors", "--log-snr-range", "3", "-3"], "log_snr_range must rise"),
        (["train", "--folder", "none", "--out", "a.safetensors"], "no folder 'none'"),
        (["sample", "--target", "seven", "--out", "a.jpg"], "must go to a .png file"),
        (["sample", "--target", "eleven", "--out", "a.png"], "no label 'eleven': did you mean seven"),
        (["sample", "--target", "one", "--out", "a.png", "--count", "0"], "at least 1, got 0"),
        (["sample", "--out", "a.png"], "Say what to steer to, as in --target seven, or .* as in --cfg 4"),
        (["sample", "--out", "a.png", "--cfg", "4", "--scale", "2"], "Say what to steer to, as in --target seven"),
        (["sample", "--target", "one", "--out", "a.png", "--method", "apg"], "give its scale, as in --cfg 4"),
        (["sample", "--target", "one", "--out", "a.png", "--null", "two"], "give its scale, as in --cfg 4"),
        (["sample", "--out", "a.png", "--cfg", "4", "--target", "one | two"], "must be one digit, .* got 'one | two'"),
        (["sample", "--out", "a.png", "--cfg", "4", "--target", "sevn"], "no label 'sevn': did you mean seven"),
        (["sample", "--out", "a.png", "--cfg", "4", "--null", "thre"], "no label 'thre': did you mean three"),
        (["sample", "--out", "a.png", "--cfg", "400"], r"scale must be in \[-100, 100\], got 400"),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "rescal"], "Did you mean 'rescale'"),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "apg:etta=1"], "apg has no parameter 'etta': it takes"),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "apg:eta=x"], "eta must be a number, got 'x'"),
        (
            ["sample", "--out", "a.png", "--cfg", "4", "--method", "apg:eta"],
            "'eta' is no parameter: write apg:param=val",
        ),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "autoguidance"], "autoguidance needs a model for weak"),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "regional:mask=1"], "mask is a mask to connect"),
        (["sample", "--out", "a.png", "--cfg", "4", "--method", "apg", "--method", "momentum"], "both decide the mom"),
        (["sample", "--out", "a.png", "--cfg", "4", "--schedule", "cosin"], "Did you mean 'cosine'"),
        (
            ["sample", "--out", "a.png", "--cfg", "4", "--schedule", "power:rate=1"],
            "has no parameter 'rate': it takes exp",
        ),
        (["sample", "--out", "a.png", "--cfg", "4", "--schedule", "cosine:start=2"], r"start must be in \[0, 1\]"),
        (
            ["sample", "--target", "one", "--out", "a.png", "--classifier", "none.safetensors"],
            "no noisy classifier file",
        ),
    ],
)
def test_refusals(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_in_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    clock = iter([1.0, 2.0, 2.01, 2.02])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    line = Line()
    for done, text in enumerate(["a long line", "short", "too soon", "end"], 1):
        line.show(text, done, 4)
    line.say("all done")
    assert sys.stderr.getvalue() == "\ra long line\rshort      \rend  \nall done\n"


def test_progress_elsewhere_is_ten_lines_and_what_matters(capsys):
    line = Line()
    for done in range(1, 101):
        line.show(f"{done}", done, 100, important=done == 55)
    assert capsys.readouterr().err.split() == ["1", "10", "20", "30", "40", "50", "55", "60", "70", "80", "90", "100"]
    quiet = Line(quiet=True)
    quiet.show("1", 1, 1, important=True)
    quiet.say("1")
    assert capsys.readouterr().err == ""


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_on_a_folder_of_pictures(ran, folder, tmp_path):
    out = tmp_path / "colours.safetensors"
    _, said = ran("train", "--folder", folder, "--out", out, "--size-px", 16, "--steps", 15, "--hold-out", 0.25, *TINY)
    assert "Not used: 'red/broken.png' cannot be read" in said
    assert "12 pictures of blue, red." in said
    assert re.search(r"step 15 of 15, loss .*, held out: loss .*\n", said)
    assert len(re.findall(r"log-SNR .* to .*: accuracy \d\.\d{3}, calibration error \d\.\d{3}\n", said)) == 10
    assert re.search(r"Saved '.*colours.safetensors'.\n$", said)
    classifier = gc.NoisyClassifier.load(out)
    assert len(classifier.record.bins) == 10 and classifier.record.suggestion is not None
    assert (list(classifier.labels), classifier.latent_space, classifier.channels) == (["blue", "red"], "pixels", 3)
    red = torch.tensor([200, 20, 20]).div(127.5).sub(1)[None, :, None, None].expand(1, 3, 16, 16)
    assert classifier(red, 0.05).argmax(1).item() == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["colours.safetensors", "pictures"]


def test_the_size_of_pictures_is_taken(folder, tmp_path, capsys):
    words = ["train", "--folder", folder, "--out", tmp_path / "a.safetensors", "--size-px", 0]
    assert main([str(word) for word in words]) == 2
    assert "at least 1 by 1, got 0 by 0" in capsys.readouterr().err


def test_train_on_shards_is_train_classifier(ran, shards, tmp_path):
    out = tmp_path / "a.safetensors"
    ran("train", "--shards", shards, "--out", out, "--steps", 3, "--log-snr-range", -4, 4, "--augment", "flip", *TINY)
    classifier = gc.NoisyClassifier.load(out)
    assert (list(classifier.labels), classifier.latent_space) == (["dark", "bright"], "sd15")
    assert classifier.log_snr_range == (-4.0, 4.0)
    *_, last = gc.train_classifier(
        ShardSource.open(shards),
        label_names=["dark", "bright"],
        steps=3,
        batch=8,
        log_snr_range=(-4, 4),
        augment="flip",
        device="cpu",
    )
    expected = last.classifier.network.state_dict()
    for name, weights in classifier.network.state_dict().items():
        torch.testing.assert_close(weights, expected[name])


def test_no_more_is_judged_than_memory_holds(ran, shards, tmp_path, monkeypatch):
    monkeypatch.setattr("guidance_core.commands.train.MOST_JUDGED", 3)
    judged = []

    def counting(classifier, latents, labels, **options):
        judged.append((len(latents), len(labels)))
        return assess(classifier, latents, labels, **options)

    monkeypatch.setattr("guidance_core.commands.train.assess", counting)
    ran("train", "--shards", shards, "--out", tmp_path / "a.safetensors", "--steps", 2, "--hold-out", 0.5, *TINY)
    assert judged == [(3, 3)]


def test_train_on_the_digits_with_the_settings_of_the_demo(ran, tmp_path):
    ran("train", "--digits", "--out", tmp_path / "a.safetensors", "--steps", 2, *TINY)
    classifier = gc.NoisyClassifier.load(tmp_path / "a.safetensors")
    assert (classifier.labels, classifier.latent_space) == (list(LABELS), "digits")
    assert classifier.log_snr_range == CLASSIFIER_SETTINGS["log_snr_range"]
    assert classifier.record.training["steps"] == 2
    assert classifier.record.training["entropy_penalty"] == CLASSIFIER_SETTINGS["entropy_penalty"]


@pytest.mark.skipif(os.name == "nt", reason="no such signal there")
def test_ctrl_c_keeps_the_best_so_far_and_the_same_command_goes_on(ran, shards, tmp_path):
    out = tmp_path / "a.safetensors"
    words = ["train", "--shards", shards, "--out", out, "--steps", 60, *TINY]
    with process(*words) as training:
        for text in training.stderr:
            if "step 12 of 60" in text:
                training.send_signal(signal.SIGINT)
                break
        written = training.stderr.read()
    assert training.returncode == 130
    step = int(re.search(r"Stopped at step (\d+) of 60: the best so far is in '.*a.safetensors', the same", written)[1])
    assert 12 <= step < 60
    assert gc.NoisyClassifier.load(out).record.training["trained_steps"] == step
    assert (tmp_path / "a.safetensors.checkpoint").exists()
    _, said = ran(*words)
    assert int(re.search(r"step (\d+) of 60", said)[1]) == step + 1
    assert gc.NoisyClassifier.load(out).record.training["trained_steps"] == 60
    assert not (tmp_path / "a.safetensors.checkpoint").exists()


def stopping_at(step):
    """What stands for the user's Ctrl-C at a step of a training in this process."""

    @contextlib.contextmanager
    def stopped(breaks_off=True):
        yield Asked(step)

    return stopped


class Asked(list):
    """Empty until it was asked for its length so many times."""

    def __init__(self, times):
        super().__init__([signal.SIGINT])
        self.times = times

    def __len__(self):
        self.times -= 1
        return int(self.times < 1)


def test_ctrl_c_on_a_full_disk_saves_the_best_all_the_same(shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("guidance_core.commands.train.stopped", stopping_at(4))
    out = tmp_path / "a.safetensors"
    words = ["train", "--shards", shards, "--out", out, "--steps", 60, "--checkpoint-every", 2, *TINY]
    try:
        with small_disk(tmp_path / "disk", 2**16) as disk:
            status = main([str(word) for word in [*words, "--checkpoint", disk.path / "run"]])
            assert not list(disk.path.iterdir())
    except NoDisk as error:
        pytest.skip(str(error))
    said = capsys.readouterr().err
    assert status == 130 and gc.NoisyClassifier.load(out).record.training["trained_steps"] == 4
    assert said.count("Training goes on, but cannot be resumed from here: '") == 1
    assert re.search(r"Stopped at step 4 of 60: the best so far is in '.*', but the same command will not go on", said)
    assert said.count("the disk is full") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_breaks_off(number):
    before = signal.getsignal(number)
    with stopped() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop == [number]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_among_several_processes_a_signal_that_comes_twice_is_one():
    with stopped(breaks_off=False) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop


def test_the_classifier_is_saved_before_it_is_judged(shards, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("guidance_core.commands.train.assess", interrupted)
    out = tmp_path / "a.safetensors"
    words = ["train", "--shards", shards, "--out", out, "--steps", 2, "--hold-out", 0.5, *TINY]
    assert main([str(word) for word in words]) == 130
    assert gc.NoisyClassifier.load(out).record.training["trained_steps"] == 2


def test_a_checkpoint_that_was_asked_for_stays(ran, shards, tmp_path):
    words = ["train", "--shards", shards, "--checkpoint", tmp_path / "run", "--out", tmp_path / "a.safetensors", *TINY]
    ran(*words, "--steps", 2)
    assert (tmp_path / "run").exists()
    with pytest.raises(AssertionError, match="of another training run: steps was 2 and is 3"):
        ran(*words, "--steps", 3)


@pytest.mark.slow
def test_two_processes_train_as_one(ran, shards, tmp_path):
    words = ["train", "--shards", shards, "--steps", 3, *TINY, "--out"]
    ran(*words, tmp_path / "one.safetensors")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with process(*words, tmp_path / "two.safetensors", launcher=launcher) as training:
        _, said = training.communicate()
    assert training.returncode == 0, said
    assert said.count("step 3 of 3") == said.count("Saved") == 1  # one of them speaks
    one, two = (gc.NoisyClassifier.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, weights in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], weights, rtol=1e-3, atol=1e-4)


# --- sample -----------------------------------------------------------------------------------------------------------


def test_sample_writes_a_contact_sheet(ran, tmp_path):
    out = tmp_path / "sheet.png"
    said, _ = ran("sample", "--target", "seven", "--steps", 8, "--count", 12, "--scale", 4, "--out", out)
    seven = int(re.search(r"The judge reads: .*?(\d+) seven", said)[1])
    assert seven >= 10
    with Image.open(out) as sheet:
        gap, size = 128 // 24, 128 + 128 // 24
        assert sheet.size == (gap + 10 * size, gap + 2 * size)
        assert sheet.crop((gap, gap, size, size)).getextrema()[0][1] > 250  # a bright stroke
        after = sheet.crop((gap + 2 * size, gap + size, *sheet.size))  # nothing after the twelfth
        assert after.getextrema() == tuple((part, part) for part in BACKGROUND)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_sample_steers_by_the_file_it_is_given(ran, tmp_path):
    """A classifier whose labels were exchanged steers to the other digit."""
    shipped = gc.NoisyClassifier.load(Path(gc.__file__).parent / "demo" / "classifier.safetensors")
    swapped = gc.NoisyClassifier(
        shipped.network, LABELS[::-1], "digits", shipped.log_snr_range, parameters=shipped.parameters
    )
    swapped.save(tmp_path / "swapped.safetensors")
    words = ["--target", "nine", "--classifier", tmp_path / "swapped.safetensors", "--sampler", "euler"]
    said, _ = ran("sample", *words, "--steps", 8, "--count", 6, "--scale", 4, "--out", tmp_path / "a.png")
    assert int(re.search(r"(\d+) zero", said)[1]) >= 5


def test_every_option_of_sample_changes_the_sheet_and_nothing_else_does(ran, tmp_path):
    plain = {"--target": "seven", "--steps": 3, "--count": 2, "--seed": 0, "--sampler": "ddim", "--scale": 2}
    changes = [{}, {"--seed": 1}, {"--sampler": "heun"}, {"--scale": 1}, {"--steps": 4}, {"--target": "six"}, {}]
    sheets = []
    for change in changes:
        ran("sample", "--out", tmp_path / "a.png", *(word for pair in (plain | change).items() for word in pair))
        sheets.append((tmp_path / "a.png").read_bytes())
    assert len(set(sheets)) == len(sheets) - 1 and sheets[0] == sheets[-1]


@pytest.mark.parametrize(
    ("words", "denoiser"),
    [
        ("--cfg 4", lambda d, asked: gc.cfg_guided(asked, d.uncond, 4.0)),
        ("--cfg 4 --null null", lambda d, asked: gc.cfg_guided(asked, d.uncond, 4.0)),
        ("--cfg 3 --null three", lambda d, asked: gc.cfg_guided(asked, d.cond(3), 3.0)),
        (
            "--cfg 4 --method apg:eta=0.2 --method rescale --schedule interval",
            lambda d, asked: gc.cfg_guided(
                asked, d.uncond, 4.0, gc.ScaleSchedule("interval"), [gc.cfg.Apg(eta=0.2), gc.cfg.Rescale()]
            ),
        ),
        (
            "--cfg 4 --schedule power:exponent=3,low=0.5,start=0.1,axis=percent,reverse=true",
            lambda d, asked: gc.cfg_guided(
                asked,
                d.uncond,
                4.0,
                gc.ScaleSchedule(Power(exponent=3.0), 0.1, low=0.5, axis="percent", reverse=True),
            ),
        ),
        (
            "--cfg 4 --method perp_neg:neg_scale=2 --null one",
            lambda d, asked: gc.cfg_guided(asked, d.cond(1), 4.0, method=gc.cfg.PerpNeg(neg_scale=2.0, empty=d.uncond)),
        ),
        (
            "--cfg 4 --method regional:channels=2",
            lambda d, asked: gc.cfg_guided(asked, d.uncond, 4.0, None, gc.cfg.Regional(channels="2")),
        ),
        (
            "--cfg 4 --target seven --scale 1.5 --schedule linear",
            lambda d, asked: gc.classifier_guided(
                gc.cfg_guided(d.cond(7), d.uncond, 4.0, gc.ScaleSchedule("linear")),
                d.classifier,
                gc.parse_target("seven", d.labels),
                1.5,
                gc.ScaleSchedule("linear"),
            ),
        ),
        ("--cfg 4 --target seven", lambda d, asked: gc.cfg_guided(d.cond(7), d.uncond, 4.0)),
    ],
)
def test_sample_by_cfg_is_what_the_library_samples(words, denoiser, tmp_path):
    """Every digit in turn without a target; methods stack; the schedule is that of both kinds of guidance."""
    d, out = demo.load(), tmp_path / "a.png"
    assert main(["sample", *words.split(), "--steps", "3", "--count", "12", "--seed", "5", "--out", str(out)]) == 0
    generator = torch.Generator().manual_seed(5)
    noise, levels = torch.randn(12, *d.shape, generator=generator), gc.trailing(d.sigmas, 3)
    guided = denoiser(d, d.cond(torch.arange(12) % 10))
    x0 = gc.sample(guided, noise, levels, generator=generator, training_sigmas=d.sigmas)
    gc.save_images(d.to_picture(x0), tmp_path / "want.png")
    assert out.read_bytes() == (tmp_path / "want.png").read_bytes()
