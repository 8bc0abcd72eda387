"""Targets: the grammar of their text, and the log-probability they stand for."""

import re
import time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.classifier.heads import heads
from guidance_core.terms.label_names import LabelNames
from guidance_core.terms.target_text import (
    MAX_ALTERNATIVES,
    MAX_LETTERS,
    MAX_PARTS,
    labels_in,
    parse_target,
    written,
)
from guidance_core.terms.targets import LabelTarget, Part, Target, as_target

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ODD = ["x-ray", "-1", "(other)", "crane (bird)", "score: 9", "Ünïcode", "two words", "a(b"]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("seven", [[Part(7)]]),
        (" Seven ", [[Part(7)]]),
        ("seven, -three", [[Part(7), Part(3, negative=True)]]),
        ("(seven:1.5), -three", [[Part(7, 1.5), Part(3, negative=True)]]),
        ("-blurry", None),
        ("-(three:0.5)", [[Part(3, 0.5, True)]]),
        ("(-three:0.5)", [[Part(3, 0.5, True)]]),
        ("-(-three)", [[Part(3)]]),
        ("( seven : 2 )", [[Part(7, 2.0)]]),
        ("(seven)", [[Part(7)]]),
        ("seven,, one,", [[Part(7), Part(1)]]),
        ("seven | three", [[Part(7)], [Part(3)]]),
        ("seven\n-three, one", [[Part(7)], [Part(3, negative=True), Part(1)]]),
        ("- seven", [[Part(7, negative=True)]]),
    ],
)
def test_grammar(text, rows):
    if rows is None:
        with pytest.raises(gc.GuidanceError, match="no label 'blurry'"):
            gc.parse_target(text, DIGITS)
        return
    assert gc.parse_target(text, DIGITS) == Target(tuple(tuple(row) for row in rows))


@pytest.mark.parametrize("label", range(len(ODD)))
def test_labels_that_look_like_syntax_can_be_named_negated_and_weighted(label):
    name = ODD[label]
    for text, part in (
        (name, Part(label)),
        (f"-{name}", Part(label, negative=True)),
        (f"({name}:1.5)", Part(label, 1.5)),
        (f"-({name}:1.5)", Part(label, 1.5, True)),
    ):
        assert gc.parse_target(text, ODD).rows == ((part,),), text


def test_labels_that_differ_in_case_only_are_told_apart():
    labels = ["Polish", "polish", "other"]
    assert [gc.parse_target(text, labels).rows[0][0].label for text in ("Polish", "polish", "-Polish")] == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sven", "no label 'sven': did you mean seven"),
        ("thre, one", "no label 'thre': did you mean three"),
        ("xyzzy", "no label 'xyzzy': .*zero, one, two"),
        ("", "^The target is empty; write at least one label, e.g. 'zero'"),
        ("seven |", "^The target 'seven |' has an empty part; write at least one label, e.g. 'zero'"),
        (",", "^The target ',' has an empty part"),
        ("(seven:0)", r"weight in '\(seven:0\)' must be a number above 0 and at most 100; use -label"),
        ("(seven:-1)", "must be a number above 0"),
        ("(seven:many)", "must be a number above 0"),
        ("(seven:101)", "at most 100"),
        ("(seven:nan)", "must be a number above 0"),
        ("(seven:)", "must be a number above 0|no label"),
    ],
)
def test_refusals_help(text, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.parse_target(text, DIGITS)


def test_away_from_the_only_label_is_refused():
    with pytest.raises(gc.GuidanceError, match="'-only' has no meaning: this classifier has one label only"):
        gc.parse_target("-only", ["only"])


@pytest.mark.parametrize("head", ["multi", "regression"])
def test_away_from_the_only_label_has_a_meaning_where_labels_do_not_exclude_each_other(head, randn):
    logits = randn(3, 1)
    away, toward = (gc.parse_target(text, ["only"], head).log_prob(logits, head) for text in ("-only", "only"))
    torch.testing.assert_close(away, toward - logits[:, 0] if head == "multi" else -toward)


@given(text=st.text(max_size=60) | st.text("seven,three|-():. 0123456789\n", max_size=60))
@example(text="(" + " " * 3000 + "x")
@example(text="(((((seven:1)))))")
@settings(max_examples=500, deadline=2000)
def test_any_text_is_a_target_or_a_sentence(text):
    for labels in (DIGITS, ODD, ["only"]):
        try:
            target = gc.parse_target(text, labels)
        except gc.GuidanceError:
            continue
        log_prob = target.log_prob(torch.zeros(4, len(labels)))
        assert bool(log_prob.isfinite().all())


def test_log_prob_is_the_weighted_sum_of_logs(randn):
    logits = 3 * randn(5, 10)
    p = logits.softmax(1)
    target = gc.parse_target("seven, (-three:0.5), (one:2)", DIGITS)
    want = p[:, 7].log() + 0.5 * (1 - p[:, 3]).log() + 2 * p[:, 1].log()
    torch.testing.assert_close(target.log_prob(logits), want)


def test_a_label_twice_counts_twice(randn):
    logits = randn(2, 10)
    double = gc.parse_target("seven, seven", DIGITS).log_prob(logits)
    torch.testing.assert_close(double, gc.parse_target("(seven:2)", DIGITS).log_prob(logits))


@pytest.mark.parametrize("head", heads())
def test_unweighted_targets_have_each_label_once(head, randn):
    logits = 3 * randn(5, 10)
    got = gc.parse_target("(seven:0.01), (-three:5), seven | (one:2)", DIGITS, head).unweighted()
    want = gc.parse_target("seven, -three | one", DIGITS, head)
    torch.testing.assert_close(got.log_prob(logits, head), want.log_prob(logits, head))
    labels = as_target(torch.tensor([7, 0, 9, 1, 1]))
    torch.testing.assert_close(labels.unweighted().log_prob(logits, head), labels.log_prob(logits, head))


def test_rows_repeat_over_the_batch(randn):
    logits = randn(5, 10)
    log_p = logits.log_softmax(1)
    got = gc.parse_target("seven | three", DIGITS).log_prob(logits)
    torch.testing.assert_close(got, log_p[range(5), [7, 3, 7, 3, 7]])


def test_more_rows_than_samples_use_the_first(randn):
    logits = randn(1, 10)
    torch.testing.assert_close(gc.parse_target("seven | three", DIGITS).log_prob(logits), logits.log_softmax(1)[:, 7])


def test_labels_are_the_plain_target(randn):
    logits = randn(3, 10)
    labels = torch.tensor([7, 0, 9])
    got = as_target(labels).log_prob(logits)
    torch.testing.assert_close(got, logits.log_softmax(1)[range(3), labels])
    torch.testing.assert_close(got, gc.parse_target("seven | zero | nine", DIGITS).log_prob(logits))


@pytest.mark.parametrize("margin", [40.0, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_log_probs_stay_exact_when_saturated(margin, dtype):
    """log(1 - p) at p = 1 - 1e-17 is -margin + log of the others, not -infinity; at p = 1e-17 it is -p, not above 0."""
    logits = torch.zeros(1, 4, dtype=dtype)
    logits[0, 2] = margin
    away = gc.parse_target("-two", ["zero", "one", "two", "three"])
    torch.testing.assert_close(float(away.log_prob(logits)), -margin + float(torch.tensor(3.0).log()))
    logits[0, 2] = -margin
    assert -1e-6 <= float(away.log_prob(logits)) <= 0


@pytest.mark.parametrize("make", [LabelTarget, lambda labels: Target(tuple((Part(int(y)),) for y in labels))])
def test_labels_that_the_classifier_lacks_are_refused(make, randn):
    with pytest.raises(gc.GuidanceError, match="label 4, but the classifier has 3 classes"):
        make(torch.tensor([1, 4])).log_prob(randn(2, 3))


def test_negative_indices_are_refused(randn):
    with pytest.raises(gc.GuidanceError, match="label -1, but the classifier has 3 classes"):
        LabelTarget(torch.tensor([1, -1])).log_prob(randn(2, 3))


def test_labels_of_another_batch_are_refused(randn):
    with pytest.raises(gc.GuidanceError, match="3 target labels for a batch of 2; give one each"):
        LabelTarget(torch.tensor([1, 0, 1])).log_prob(randn(2, 3))


@pytest.mark.parametrize(
    "wrong", ["seven", 7, [7, 3], torch.tensor(7), torch.tensor([[7]]), torch.tensor([7.0])], ids=repr
)
def test_what_is_no_target_is_refused(wrong):
    with pytest.raises(gc.GuidanceError, match=r"target must be int labels \[B\] or a Target from parse_target"):
        as_target(wrong)


def test_a_label_that_lists_synonyms_is_found_by_each_that_is_its_own():
    """ImageNet's labels are lists of names; a name that two labels share finds neither."""
    labels = ["great white shark, white shark", "tiger shark", "crane, wader", "crane, hoist", "cat"]
    target = gc.parse_target("(white shark:2), -Tiger Shark, wader", labels)
    assert [(part.label, part.weight, part.negative) for part in target.rows[0]] == [
        (0, 2.0, False),
        (1, 1.0, True),
        (2, 1.0, False),
    ]
    for text in ("crane", "shark"):
        with pytest.raises(gc.GuidanceError, match=f"There is no label '{text}'"):
            gc.parse_target(text, labels)


@given(st.text(min_size=1), st.floats(0.01, 100), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_label_can_be_written_and_read_back(label, weight, away):
    """Whatever its marks; beside labels that its parts could be taken for."""
    weight, label = float(f"{weight:g}"), label.strip() or "-"
    labels = ["plain", "a", "b", *({label} - {"plain", "a", "b"})]
    text = f"plain, {written(label, weight, away)} | {written(label)}, a"
    both = parse_target(text, labels)
    index = labels.index(label)
    assert both.rows == ((Part(0), Part(index, weight, away)), (Part(index), Part(1)))


def test_labels_up_to_the_last_are_there_and_no_further(randn):
    logits = randn(2, 3)
    for make in (LabelTarget, lambda labels: Target(tuple((Part(int(y)),) for y in labels))):
        assert make(torch.tensor([0, 2])).log_prob(logits).shape == (2,)
        with pytest.raises(gc.GuidanceError, match="label 3, but the classifier has 3 classes"):
            make(torch.tensor([0, 3])).log_prob(logits)


def test_weights_up_to_a_hundred_are_taken():
    for weight in (100.0, 0.001, 1.0):
        assert gc.parse_target(f"(seven:{weight})", DIGITS).rows == ((Part(7, weight),),)
    for weight in ("0", "100.5", "-0.5", "inf"):
        with pytest.raises(gc.GuidanceError, match="must be a number above 0 and at most 100"):
            gc.parse_target(f"(seven:{weight})", DIGITS)


def test_a_hint_names_three_near_labels_or_the_first_twenty():
    many = [f"label{i:02}" for i in range(30)]
    with pytest.raises(
        gc.GuidanceError, match=r"There is no label 'label1x': did you mean label\d\d or label\d\d or "
    ) as e:
        gc.parse_target("label1x", many)
    assert re.fullmatch(r"There is no label 'label1x': did you mean label\d\d( or label\d\d){2}\?", str(e.value))
    with pytest.raises(gc.GuidanceError) as e:
        gc.parse_target("zzz", many)
    assert str(e.value) == f"There is no label 'zzz': the labels are {', '.join(many[:20])}."
    with pytest.raises(gc.GuidanceError, match="did you mean ab"):  # half of it is right
        gc.parse_target("axxb", ["ab", "qqqq"])


@pytest.mark.parametrize("text", ['""', '"', "( )", "()", "(:1)", "-"])
def test_a_name_of_nothing_but_marks_is_no_label(text):
    with pytest.raises(gc.GuidanceError, match="There is no label"):
        gc.parse_target(text, ["a", "b"])


def test_one_character_in_quotes_is_a_label():
    assert gc.parse_target('"a", -"b"', ["a", "b"]).rows == ((Part(0), Part(1, negative=True)),)
    assert gc.parse_target('"a,b" | ("c|d":2)', ["a,b", "c|d"]).rows == ((Part(0),), (Part(1, 2.0),))


def test_away_from_one_of_two_labels_has_a_meaning():
    assert gc.parse_target("-a", ["a", "b"]).rows == ((Part(0, negative=True),),)
    assert gc.parse_target("only", ["only"]).rows == ((Part(0),),)


def test_the_target_of_some_samples_is_that_of_the_batch(randn):
    logits = randn(5, 10)
    labels = torch.tensor([7, 0, 9, 1, 1])
    for target in (gc.parse_target("seven | -three | one, two", DIGITS), LabelTarget(labels)):
        assert as_target(target) is target
        whole = target.log_prob(logits)
        for some in (range(2, 5), range(1, 2), range(5)):
            torch.testing.assert_close(target.of(some).log_prob(logits[list(some)]), whole[list(some)])


def test_a_label_is_written_with_what_it_needs_alone():
    assert [written("cat"), written("cat", 1.5), written("cat", away=True), written("-1", 2.0, True)] == [
        "cat",
        "(cat:1.5)",
        "-cat",
        '-("-1":2)',
    ]
    assert (Part(3).weight, Part(3).negative) == (1, False)


LONG = {
    "commas": ("," * MAX_LETTERS, "empty part"),
    "one alternative": (", ".join(["seven"] * MAX_PARTS), ""),
    "alternatives": (" | ".join(["(seven:1.5)"] * MAX_ALTERNATIVES), ""),
    "quotes": ('"seven",' * MAX_PARTS, ""),
    "quotes that do not pair": ('"seven",' * 255 + '"', "no label"),
    "quotes alone": ('"' * MAX_LETTERS, "no label"),
    "brackets": ("(" * (MAX_LETTERS // 2) + "seven" + ")" * (MAX_LETTERS // 2 - 5), "no label"),
    "digits": ("(seven:" + "1" * (MAX_LETTERS - 8) + ")", "weight"),
    "spaces": ("seven" + " " * (MAX_LETTERS - 6) + "x", "no label"),
    "too many letters": ("," * (MAX_LETTERS + 1), "65536 letters at most, and this one has 65537: shorten it"),
    "too many alternatives": (
        "seven|" * MAX_ALTERNATIVES + "seven",
        "4096 alternatives at most, .* 4097",
    ),
    "too many parts": (
        "seven | " + "seven," * (MAX_PARTS + 1),
        "256 labels for one sample at most, .* 257",
    ),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("count", [10, 65536])
def test_the_longest_targets_are_read_in_one_pass(name, count):
    """In a second of the processor's time, where time that grew with the square took from ten up to hours."""
    text, sentence = LONG[name]
    labels = [*DIGITS, *(f"label number {i}" for i in range(len(DIGITS), count))]
    began = time.process_time()
    if sentence:
        with pytest.raises(gc.GuidanceError, match=sentence) as refused:
            parse_target(text, labels)
        assert len(str(refused.value)) < 1500
    else:
        assert {part.label for row in parse_target(text, labels).rows for part in row} == {7}
    assert time.process_time() - began < 5


LETTERS = {
    "numbers": lambda i: f"label number {i}",
    "long": lambda i: f"{i:05d} ab" * 25,
    "alike": lambda i: "ab" * 97 + f"{i:05d}",
}


@pytest.mark.parametrize("letters", LETTERS)
def test_near_names_among_as_many_labels_as_a_file_may_have(letters):
    labels = [LETTERS[letters](i) for i in range(65536)]
    wanted = labels[4711]
    began = time.process_time()
    with pytest.raises(gc.GuidanceError) as refused:
        parse_target(wanted[:-2] + "x" + wanted[-1:], labels)
    assert time.process_time() - began < 5
    assert "did you mean" in str(refused.value) and len(str(refused.value)) < 600
    if letters == "numbers":
        assert re.search(r"did you mean label number (471|47.1)\b", str(refused.value))


@pytest.mark.parametrize("count", [20, 31, 32, 33, 200])
def test_near_names_are_the_same_among_few_and_many(count):
    labels = [*(f"{i:b}" for i in range(count)), "Seven", "great white shark"]
    for name, near in (("sven", "seven"), ("great wite shark", "great white shark")):
        with pytest.raises(gc.GuidanceError, match=f"no label '{name}': did you mean {near}"):
            parse_target(name, labels)


@pytest.mark.parametrize("text", ["x" * 60000, "(seven:" + "9" * 60000 + ")", "x," * 200, "(" * 60000])
def test_an_error_quotes_a_hundred_letters(text):
    labels = [f"{i}" + "long" * 49 for i in range(200)]
    with pytest.raises(gc.GuidanceError) as refused:
        parse_target(text, [*labels, "seven"])
    assert len(str(refused.value)) < 1200


def test_a_name_with_thousands_of_accents_is_looked_up_in_one_pass():
    """Unicode puts the accents of a letter in order in a time that grows with their square: eleven seconds."""
    began = time.process_time()
    with pytest.raises(gc.GuidanceError, match="There is no label") as refused:
        LabelNames(DIGITS).index("a" + "\u0301\u0323" * 60000)
    assert time.process_time() - began < 5
    assert len(str(refused.value)) < 250


def test_what_is_no_target_is_quoted_in_part():
    with pytest.raises(gc.GuidanceError) as refused:
        as_target("seven" * 100000)
    assert len(str(refused.value)) < 250


NAMED = {  # a target, and the labels that it names
    "a smiling face, -blurry": ["a smiling face", "blurry"],
    "(a face:1.5), -(Blurry:0.5) | blurry, (-a face)": ["a face", "Blurry"],
    '"a, b", -"a ""b"""': ["a, b", 'a "b"'],
    "a: b | -12:30": ["a: b", "12:30"],
}


@pytest.mark.parametrize("text", NAMED)
def test_the_labels_that_a_target_names_are_those_in_which_it_is_found(text):
    labels = labels_in(text)
    assert list(labels) == NAMED[text]
    rows = gc.parse_target(text, labels, "regression").rows
    assert {part.label for row in rows for part in row} == set(range(len(labels)))


@pytest.mark.parametrize(
    "text", ["", " , ", "-", "a | ", "(:2)", "(a:0)", "x" * (MAX_LETTERS + 1), "\n".join(map(str, range(999)))]
)
def test_a_target_that_names_no_labels_is_refused(text):
    with pytest.raises(gc.GuidanceError):
        labels_in(text)


@pytest.mark.parametrize(
    ("others", "label", "name"),
    [
        ([f"{'abcdefgh ' * 9}{i}" for i in range(40)], "abcdefgx", "abcdefgh"),  # which hold all of it, and far more
        ([f"h{i:06}" for i in range(40)], "harbours", "harbour"),  # which are as long, and else unlike it
    ],
)
def test_of_many_labels_the_near_one_is_found_by_its_letters_and_its_length(others, label, name):
    with pytest.raises(gc.GuidanceError, match=f"no label '{name}': did you mean {label}"):
        gc.parse_target(name, [*others, label])
