import gzip
import io
import json
import random
import zipfile
from collections import Counter

import pytest

from data_prep.runner.run import RunConfig
from data_prep.sources import dialogues
from data_prep.steps.sample import SampleConfig, run
from fo_core.errors import ConfigError, DataError


def record(number, category="advice", said=None, turns=2):
    chat = {
        f"turn_{t + 1}": {
            "Human": f"<|Human|>: {said or f'Tell me about number {number}'} then {t}.<eoh>\n",
            "Commands": "<|Commands|>: None<eoc>\n",
            "MOSS": f"<|MOSS|>: Well, {number}.<eom>\n",
        }
        for t in range(turns)
    }
    return {"conversation_id": str(number), "chat": chat, "category": category}


def lines(records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def as_jsonl(folder, records):
    (folder / "a.jsonl").write_text(lines(records))
    return folder / "a.jsonl"


def as_gz(folder, records):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(records).encode()))
    return folder / "a.jsonl.gz"


def as_zip(folder, records):
    with zipfile.ZipFile(folder / "a.jsonl.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._data.jsonl", b"\x00\x05")
        archive.writestr("data.jsonl", lines(records))
    return folder / "a.jsonl.zip"


def as_folder(folder, records):
    for i, r in enumerate(records):
        sub = folder / "all" / str(i % 3)
        sub.mkdir(parents=True, exist_ok=True)
        (sub / f"{i}.json").write_text(json.dumps(r, indent=1))
    return folder / "all"


FORMS = [as_jsonl, as_gz, as_zip, as_folder]


def ids(folder):
    return [d.id for d in dialogues.read(folder / "manifest.jsonl")]


def test_every_form_and_order_gives_the_same_dialogues(tmp_path):
    records = [record(i) for i in range(200)]
    found = {}
    for form in FORMS:
        mixed = random.Random(form.__name__).sample(records, len(records))
        (tmp_path / form.__name__).mkdir()
        source = form(tmp_path / form.__name__, mixed)
        out = tmp_path / f"out-{form.__name__}"
        report = run(SampleConfig(number=40), source, out)
        assert report["items"] == 200 and report["made"] == 40
        found[form.__name__] = ids(out)
    assert len({tuple(f) for f in found.values()}) == 1
    run(SampleConfig(number=40, seed=1), as_jsonl(tmp_path, records), tmp_path / "other")
    assert set(ids(tmp_path / "other")) != set(found["as_zip"])


def test_a_smaller_sample_is_the_head_of_a_larger_one(tmp_path):
    source = as_jsonl(tmp_path, [record(i) for i in range(100)])
    run(SampleConfig(number=50), source, tmp_path / "50")
    run(SampleConfig(number=50), source, tmp_path / "9", RunConfig(limit=9))
    assert ids(tmp_path / "9") == ids(tmp_path / "50")[:9]


def test_every_dialogue_has_the_same_chance(tmp_path):
    """120 draws of 20 out of 60: each is drawn 40 times, sigma 5.2; a biased heap would show."""
    source = as_jsonl(tmp_path, [record(i, turns=1) for i in range(60)])
    drawn = Counter()
    for seed in range(120):
        run(SampleConfig(number=20, seed=seed), source, tmp_path / "out")
        drawn.update(ids(tmp_path / "out"))
    assert len(drawn) == 60
    assert min(drawn.values()) > 18 and max(drawn.values()) < 62


def test_twins_are_drawn_once_and_counted(tmp_path):
    records = [record(i, said="Hello there") for i in range(5)] + [record(9)]
    report = run(SampleConfig(), as_jsonl(tmp_path, records), tmp_path / "out")
    assert report["made"] == 2 and report["duplicates"] == 4


def test_groups_are_filled_evenly_or_by_quota(tmp_path):
    records = [record(i, "Writing") for i in range(80)] + [
        record(i + 80, "code") for i in range(10)
    ]
    source = as_jsonl(tmp_path, records)
    even = run(SampleConfig(number=30, by="category"), source, tmp_path / "even")
    assert even["categories"] == {"writing": 20, "code": 10}
    quotas = SampleConfig(by="category", quotas={"code": 3})
    assert run(quotas, source, tmp_path / "quota")["categories"] == {"code": 3}
    only = SampleConfig(categories=("CODE",))
    assert run(only, source, tmp_path / "only")["categories"] == {"code": 10}


def test_a_dialogue_ends_before_what_cannot_be_said(tmp_path):
    chat = record(1, turns=3)
    chat["chat"]["turn_2"]["Human"] = "<|Human|>: Use `let` there.<eoh>"
    source = as_jsonl(tmp_path, [chat])
    report = run(SampleConfig(), source, tmp_path / "cut")
    (made,) = dialogues.read(tmp_path / "cut" / "manifest.jsonl")
    assert len(made.turns) == 1
    assert report["filters"]["code"] == {"turns": 1, "cut": 1, "dropped": 0}
    run(SampleConfig(no_filter=("code",)), source, tmp_path / "off")
    (made,) = dialogues.read(tmp_path / "off" / "manifest.jsonl")
    assert len(made.turns) == 3
    with pytest.raises(DataError, match="code 1"):
        run(SampleConfig(after="drop"), source, tmp_path / "drop")
    (row,) = map(json.loads, (tmp_path / "drop" / "rejects.jsonl").read_text().splitlines())
    assert row["reason"] == "code" and row["source"] == "a.jsonl:1"


def test_tool_turns_are_kept_when_asked_for(tmp_path):
    chat = record(1, turns=2)
    chat["chat"]["turn_1"]["Commands"] = '<|Commands|>: Search("x")<eoc>'
    source = as_jsonl(tmp_path, [chat, record(2)])
    assert run(SampleConfig(), source, tmp_path / "no")["rejected"] == {"tool": 1}
    assert run(SampleConfig(tools=True), source, tmp_path / "yes")["made"] == 2


def test_what_is_done_is_left_alone_until_something_changes(tmp_path):
    source = as_jsonl(tmp_path, [record(i) for i in range(5)])
    first = run(SampleConfig(), source, tmp_path / "out")
    written = (tmp_path / "out" / "manifest.jsonl").stat().st_mtime_ns
    assert run(SampleConfig(), source, tmp_path / "out") == first
    assert (tmp_path / "out" / "manifest.jsonl").stat().st_mtime_ns == written
    assert run(SampleConfig(number=2), source, tmp_path / "out")["made"] == 2


def test_settings_that_make_no_sense_are_refused(tmp_path):
    source = as_jsonl(tmp_path, [record(1)])
    for cfg, said in [
        (SampleConfig(no_filter=("cod",)), "did you mean 'code'"),
        (SampleConfig(quotas={"en": 3}), "quotas need by"),
        (SampleConfig(number=0), "nothing to draw"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run(cfg, source, tmp_path / "out")
    with pytest.raises(ConfigError, match="no input"):
        run(SampleConfig(), None, tmp_path / "out")


def zipped(text, **kind):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", kind.pop("kind", zipfile.ZIP_DEFLATED)) as archive:
        archive.writestr("data.jsonl", text)
    return held.getvalue()


GOOD = lines([record(0)])
LONG = lines([record(i) for i in range(300)])
DEEP = "[" * 100_000 + "]" * 100_000
BAD_LINES = {  # name -> bytes of a line that cannot be used
    "cut": b'{"conversation_id": "1", "chat": {"turn_1"',
    "words": b"not json at all",
    "quotes": b"{'chat': 1}",
    "latin1": '{"conversation": [{"human": "caf\xe9"}]}'.encode("latin-1"),
    "utf16": '{"conversation": [{"human": "a"}]}'.encode("utf-16")[:-1],
    "gbk": '{"conversation": [{"human": "\u4f60\u597d"}]}'.encode("gbk"),
    "nul": b"\x00\x00\x00",
    "surrogate": b'{"conversation": [{"human": "\\ud83d"}]}',
    "deep": DEEP.encode(),
    "huge": b'{"conversation": [{"human": "' + b"a" * (9 * 2**20) + b'"}]}',
    "number": b'{"conversation": ' + b"9" * 5000 + b"}",
    "list": b"[1, 2]",
    "null": b"null",
    "true": b"true",
    "text": b'"text"',
    "empty object": b"{}",
    "chat none": b'{"chat": null}',
    "chat empty": b'{"chat": {}}',
    "chat text": b'{"chat": "hello"}',
    "chat number": b'{"chat": 5}',
    "turn none": b'{"chat": {"turn_1": null, "turn_2": null}}',
    "turn text": b'{"chat": {"turn_1": "hello"}}',
    "turn list": b'{"chat": {"turn_1": ["a", "b"]}}',
    "turn empty": b'{"chat": {"turn_1": {}}}',
    "turn no number": b'{"chat": {"turn_x": {"Human": "a"}}}',
    "human none": b'{"chat": {"turn_1": {"Human": null, "MOSS": "a"}}}',
    "human number": b'{"chat": {"turn_1": {"Human": 1.5}}}',
    "human list": b'{"chat": {"turn_1": {"Human": ["a"]}}}',
    "human marker": b'{"chat": {"turn_1": {"Human": "<|Human|>: <eoh>"}}}',
    "human blank": b'{"chat": {"turn_1": {"Human": " \\n\\t "}}}',
    "moss object": b'{"chat": {"turn_1": {"Human": "a", "MOSS": {}}}}',
    "commands list": b'{"chat": {"turn_1": {"Human": "a", "Commands": [1]}}}',
    "category": b'{"chat": {"turn_1": {"Human": "a"}}, "category": ["x"]}',
    "layout list": b'{"conversation": [1, 2]}',
    "layout text": b'{"conversation": "hello"}',
    "layout none": b'{"conversation": [null, null]}',
    "layout empty": b'{"conversation": []}',
    "layout assistant": b'{"conversation": [{"human": "a", "assistant": 4}]}',
    "no letters": b'{"conversation": [{"human": "?!"}]}',
    "emoji": '{"conversation": [{"human": "\U0001f642\U0001f642"}]}'.encode(),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_listed_and_the_rest_is_drawn(tmp_path, name):
    (tmp_path / "a.jsonl").write_bytes(GOOD.encode() + BAD_LINES[name] + b"\n" + LONG.encode())
    report = run(SampleConfig(number=10), tmp_path / "a.jsonl", tmp_path / "out")
    assert report["made"] == 10 and sum(report["rejected"].values()) == 1
    (row,) = map(json.loads, (tmp_path / "out" / "rejects.jsonl").read_text().splitlines())
    assert row["source"] == "a.jsonl:2" and row["reason"] and row["step"] == "sample"


def flipped(data, at, count=64):
    return data[:at] + bytes(b ^ 0x5A for b in data[at : at + count]) + data[at + count :]


ZIP = zipped(LONG)
DAMAGED = {  # file name and bytes; records before the damage are drawn, the damage is listed
    "zip flipped.jsonl.zip": flipped(ZIP, len(ZIP) // 2),
    "zip stored.jsonl.zip": flipped(zipped(LONG, kind=zipfile.ZIP_STORED), 20_000),
    "gz cut.jsonl.gz": gzip.compress(LONG.encode())[:-100],
    "gz flipped.jsonl.gz": flipped(gzip.compress(LONG.encode()), 1500),
    "no newline.jsonl": LONG.encode() + b'{"conversation": [{"human": "cut',
    "crlf.jsonl": LONG.replace("\n", "\r\n").encode() + b"oops\r\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_gives_what_can_be_read(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    (tmp_path / "b.jsonl").write_text(GOOD)
    sources = [tmp_path / name, tmp_path / "b.jsonl"]
    report = run(SampleConfig(), sources, tmp_path / "out")
    assert report["made"] >= 1 and report["broken"] >= 1
    rows = map(json.loads, (tmp_path / "out" / "rejects.jsonl").read_text().splitlines())
    assert all(name in row["source"] and row["reason"] for row in rows)


REFUSED = {  # the run cannot begin: file name, bytes, what the line says
    "cut.zip": (ZIP[: len(ZIP) // 2], "was cut short"),
    "empty.zip": (b"", "is not a zip"),
    "html.zip": (b"<html>404</html>", "is not a zip"),
    "pictures.zip": (None, "holds no .jsonl"),
    "data.txt": (b"x", "unknown form"),
    "data.parquet": (b"PAR1", "unknown form"),
    "empty.jsonl": (b"", "none of 0 conversations"),
    "blank.jsonl": (b"\n\n \n", "none of 0 conversations"),
    "bad.jsonl": (b"a\nb\n", "none of 2 conversations.*not JSON 2"),
    "bad.json": (b"[1, 2, 3]", "none of 3 conversations"),
    "cut.json": (b'{"chat": {', "none of 1 conversations"),
    "empty.jsonl.gz": (b"", "none of 0 conversations"),
    "no.jsonl.gz": (b"not gzip", "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_without_a_dialogue_is_one_clear_error(tmp_path, name):
    data, said = REFUSED[name]
    if data is None:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.png", b"png")
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said) as fault:
        run(SampleConfig(), tmp_path / name, tmp_path / "out")
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "out" / "manifest.jsonl").exists() or data is not None


def test_sources_that_are_not_there(tmp_path):
    (tmp_path / "none").mkdir()
    for path, said in [
        (tmp_path / "no.zip", "no file or folder"),
        (tmp_path / "none", "no dialog"),
    ]:
        with pytest.raises(DataError, match=said):
            run(SampleConfig(), path, tmp_path / "out")


def test_the_real_dialogues(shared_dir, tmp_path):
    source = shared_dir / "data" / "moss003" / "moss003_sample.jsonl"
    report = run(SampleConfig(), source, tmp_path / "out")
    assert report["items"] == 300 and report["broken"] == 0
    assert 150 < report["made"] < 260 and report["made"] + report["filtered"] == 300
    assert report["categories"]["advice"] == 50  # plain questions pass
    assert report["filters"]["tool"]["turns"] == 91
    text = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert "<|" not in text and "<eo" not in text
