"""Every example is run as a user runs it, small and quick; and the demo server does what a real one would.

The scripts run in processes of their own, in an empty folder. What they print is looked at only where it is promised.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
QUICK = ("--server", "latency=0.02")  # seconds; for the main example


def _load(path: Path) -> ModuleType:
    """One file of `examples/`, which are scripts and not in a package."""
    name = f"examples_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


server = _load(EXAMPLES / "support" / "server.py")
prompts = _load(EXAMPLES / "support" / "prompts.py")
llm_server = _load(EXAMPLES / "llm_server.py")


def environment(**more: str) -> dict[str, str]:
    """For a script: the checkout's own concurry, and no real account."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return {**env, "PYTHONPATH": str(ROOT), "NO_PROXY": "*", **more}


def run(script: str, *args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, and check that nothing went wrong beside its exit code."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for sign in ("Traceback", "Exception ignored", "ResourceWarning", "Task was destroyed"):
        assert sign not in ended.stderr, ended.stderr
    return ended


# -- the main example -------------------------------------------------------------------------------------------------


def ratings(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "out" / "batch_llm.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_batch_in_both_modes(tmp_path: Path) -> None:
    # One request in ten fails, one answer in ten is cut off: retries see to it that all prompts are rated.
    rates = [f"--server={rate}=0.1" for rate in ("error_rate", "short_rate")]
    ended = run("batch_llm.py", "--prompts", "40", "--workers", "20", *QUICK, *rates, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rated = ratings(tmp_path)
    by_run = {name: [it for it in rated if it["run"] == name] for name in dict.fromkeys(it["run"] for it in rated)}
    assert {name: len(them) for name, them in by_run.items()} == {
        "one by one": 10,
        "thread, 20 workers": 40,
        "asyncio, 20 at once": 40,
    }
    assert all(1 <= it["clarity"] <= 10 and it["reason"] for it in rated)
    assert len({it["name"] for it in by_run["thread, 20 workers"]}) == 40
    for name in by_run:
        assert name in ended.stdout
    assert "times faster" in ended.stdout
    assert (tmp_path / "out" / "batch_llm.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_prompt_is_listed_with_its_reason(tmp_path: Path) -> None:
    args = ("--prompts", "40", "--workers", "10", "--mode", "thread", *QUICK, "--server", "context_tokens=200")
    ended = run("batch_llm.py", *args, cwd=tmp_path)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    failed = [it for it in ratings(tmp_path) if it["run"].startswith("thread") and "error" in it]
    assert failed
    assert len([it for it in ratings(tmp_path) if it["run"].startswith("thread")]) == 40
    for it in failed:
        assert "maximum context length" in it["error"]
        assert f"  {it['name']}: BadRequestError: " in ended.stdout


@pytest.mark.parametrize(("mode", "begun"), [("thread", b"thread, 20 workers"), ("asyncio", b"asyncio, 20 at once")])
def test_ctrl_c_ends_with_what_there_is(mode: str, begun: bytes, tmp_path: Path) -> None:
    args = ["--prompts", "600", "--workers", "20", "--mode", mode, "--server", "latency=0.1"]
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "batch_llm.py"), *args],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        drawn = b""
        while begun not in drawn:  # the progress bar of the run
            chunk = os.read(process.stderr.fileno(), 4096)
            assert chunk, drawn.decode()
            drawn += chunk
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    said = out.decode() + err.decode()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "Interrupted" in said
    assert "prompts not answered" in said
    assert len([it for it in ratings(tmp_path) if it["run"] == "one by one"]) == 10


def test_a_real_endpoint_needs_a_key_and_no_server(base_url: str, tmp_path: Path) -> None:
    args = ("--base-url", base_url, "--mode", "asyncio", "--prompts", "12", "--workers", "4")
    ended = run("batch_llm.py", *args, cwd=tmp_path)
    assert ended.returncode == 2
    assert "OPENAI_API_KEY" in ended.stderr
    before = server.server_stats(base_url).get("200", 0)
    ended = run("batch_llm.py", *args, cwd=tmp_path, OPENAI_API_KEY="a key")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{base_url}\n" in ended.stdout
    assert server.server_stats(base_url)["200"] == before + 10 + 12


# -- the further examples ---------------------------------------------------------------------------------------------


def test_rate_limited_pool(tmp_path: Path) -> None:
    ended = run("rate_limited_pool.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    without, with_limits = ended.stdout.splitlines()
    assert without.startswith("without:")
    assert " 0 refused" not in without
    assert with_limits.startswith("with limits: 60 of 60 answered")
    assert " 0 refused" in with_limits


def test_async_client(tmp_path: Path) -> None:
    ended = run("async_client.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("300 answers in ")


def test_error_handling(tmp_path: Path) -> None:
    ended = run("error_handling.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("39 of 41 summarized; failed:\n")
    assert "report 7: tried 6 times, never complete: 'This is" in ended.stdout
    assert "the long one: not tried again: Error code: 400" in ended.stdout
    assert ended.stdout.endswith("2 of 2 summarized, 41 in all\n")


def test_structured_extraction(tmp_path: Path) -> None:
    ended = run("structured_extraction.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("60 of 60 orders are what their mails say; ")
    assert "; 0 answers were refused" not in ended.stdout


def test_many_accounts(tmp_path: Path) -> None:
    ended = run("many_accounts.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    one, three = ended.stdout.splitlines()
    assert one.startswith("eu: 90 answers in ")
    assert three.startswith("eu, us, asia: 90 answers in ")
    assert " 0 by " not in three


def test_scraper(tmp_path: Path) -> None:
    ended = run("scraper.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    found, replies = ended.stdout.splitlines()
    assert found.startswith("500 pages of 3 sites in ")
    assert found.endswith(", 0 failed")
    assert "500 of status 200" in replies
    assert "10 of status 503" in replies


# -- over processes ---------------------------------------------------------------------------------------------------


def test_flights_pipeline(tmp_path: Path) -> None:
    ended = run("flights_pipeline.py", "--quick", "--cleaners", "2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    processes, pandas_alone, equal, *table = ended.stdout.splitlines()
    rows = processes.split(" rows")[0].split()[-1]
    assert int(rows.replace(",", "")) > 20_000
    assert f" {rows} rows" in pandas_alone
    assert equal == "equal"
    assert any(line.startswith("UA ") for line in table)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(
    ("victim", "code", "said"), [("Cleaner[0]", 0, "equal"), ("Reader", 0, "equal"), ("Aggregator", 1, "Aggregator")]
)
def test_flights_pipeline_with_a_process_killed(victim: str, code: int, said: str, tmp_path: Path) -> None:
    # Each process of the pipeline tells its name and pid in its title; the first block that is read starts the clock.
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "flights_pipeline.py")],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.kill(_busy_child(process, f"concurry: {victim}"), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert said in out + err
    assert "Traceback" not in err


def _busy_child(process: subprocess.Popen[str], title: str) -> int:
    """The pid of the child of that title, once the last one, the reader, has done some work."""
    ours = psutil.Process(process.pid)
    found: dict[str, psutil.Process] = {}
    while process.poll() is None:
        for child in ours.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[" ".join(child.cmdline()).strip()] = child
        reader = found.get("concurry: Reader")
        if reader is not None and title in found and reader.io_counters().read_chars > 4 << 20:
            pid: int = found[title].pid
            return pid
    raise AssertionError("it has ended before it could be killed")


def test_array_pipeline(tmp_path: Path) -> None:
    ended = run("array_pipeline.py", "--quick", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for way in ("plain numpy", "ProcessPoolExecutor", "concurry"):
        assert f"\n{way} " in ended.stdout
    assert ended.stdout.endswith("the same to the last bit\n")


def test_cpu_pool(tmp_path: Path) -> None:
    ended = run("cpu_pool.py", "--quick", "--processes", "2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("40 files, ")
    for way in ("one process", "ProcessPoolExecutor", "concurry"):
        assert f"\n{way} " in ended.stdout
    assert "the same counts: self " in ended.stdout


def test_embeddings(tmp_path: Path) -> None:
    ended = run("embeddings.py", "--quick", "--processes", "2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    _, _, equal, nearest, *_ = ended.stdout.splitlines()
    assert equal == "the same to the last bit"
    assert nearest.startswith("  1.00 abc.abstractmethod: ")


# -- the prompts ------------------------------------------------------------------------------------------------------


def test_there_are_a_thousand_docstrings() -> None:
    found = prompts.docstrings(1_000)
    assert len(found) == 1_000
    assert all(text.strip() for text in found.values())
    assert not any(part.startswith("_") for name in found for part in name.split("."))
    assert prompts.docstrings(5) == dict(list(found.items())[:5])


# -- the demo server --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A quick server without quotas or failures."""
    with server.running_server(latency=0.001, latency_spread=0) as url:
        yield url


def client_of(url: str, **options: Any) -> openai.OpenAI:
    given: dict[str, Any] = {"api_key": "demo", "max_retries": 0, **options}
    return openai.OpenAI(base_url=url, http_client=openai.DefaultHttpxClient(trust_env=False), **given)


def ask(client: openai.OpenAI, prompt: str, **options: Any) -> Any:
    given: dict[str, Any] = {"model": "demo-model", "messages": [{"role": "user", "content": prompt}], **options}
    return client.chat.completions.create(**given)


def statuses(url: str, count: int) -> list[int]:
    """What `count` prompts, one after the other, are answered with."""
    seen: list[int] = []
    with client_of(url) as client:
        for number in range(count):
            try:
                ask(client, f"prompt {number}")
                seen.append(200)
            except openai.APIStatusError as error:
                seen.append(error.status_code)
    return seen


def test_server_answers_in_openais_form(base_url: str) -> None:
    with client_of(base_url) as client:
        assert "demo-model" in [model.id for model in client.models.list()]
        reply = ask(client, 'Rate the clarity of """Return the absolute value of a number.""" from 1 to 10.')
        rating = json.loads(reply.choices[0].message.content)
        assert 1 <= rating["clarity"] <= 10
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
        cut = ask(client, "Tell me more.", max_tokens=3)
        assert cut.choices[0].finish_reason == "length"
        assert cut.usage.completion_tokens <= 4
        parts = ask(client, "", messages=[{"role": "user", "content": [{"type": "text", "text": "Tell me more."}]}])
        assert parts.choices[0].message.content.startswith(cut.choices[0].message.content)


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.BadRequestError, None),
        ({"messages": [{"role": "user"}]}, openai.BadRequestError, None),
        ({"max_tokens": 0}, openai.BadRequestError, None),
        ({"stream": True}, openai.BadRequestError, None),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, openai.BadRequestError, "context_length_exceeded"),
    ],
)
def test_server_refuses_as_openai_does(
    asked: dict[str, Any], error: type[openai.APIStatusError], code: str | None, base_url: str
) -> None:
    with client_of(base_url) as client:
        with pytest.raises(error) as raised:
            ask(client, "Hello", **asked)
        assert raised.value.code == code
        assert raised.value.type == "invalid_request_error"


def test_server_wants_a_key(base_url: str) -> None:
    with (
        client_of(base_url, default_headers={"Authorization": ""}) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(client, "Hello")


@pytest.mark.parametrize("quota", ["requests", "tokens"])
def test_server_holds_its_quotas(quota: str) -> None:
    # Room for four of these: a prompt of 5 tokens and an answer of 20.
    per_minute = {"requests": {"requests_per_minute": 4}, "tokens": {"tokens_per_minute": 100}}[quota]
    with server.running_server(latency=0, **per_minute) as url, client_of(url) as client:
        used = [ask(client, "What is a quota?").usage.total_tokens for _ in range(4)]
        assert used == [25] * 4
        with pytest.raises(openai.RateLimitError) as raised:
            ask(client, "What is a quota?")
        assert raised.value.code == "rate_limit_exceeded"
        assert raised.value.type == quota
        assert int(raised.value.response.headers["Retry-After"]) >= 1
        counted = server.server_stats(url)
        assert (counted["200"], counted["429"], counted["requests"], counted["tokens"]) == (4, 1, 5, 100)


def test_server_fails_at_times_and_by_its_seed() -> None:
    def seen(seed: int) -> list[int]:
        with server.running_server(latency=0, error_rate=0.2, busy_rate=0.2, seed=seed) as url:
            return statuses(url, 40)

    first, again, other = seen(1), seen(1), seen(2)
    assert set(first) == {200, 429, 500}
    assert first == again != other


def test_server_answers_many_at_once() -> None:
    with (
        server.running_server(latency=0.3, latency_spread=0) as url,
        client_of(url) as client,
        ThreadPoolExecutor(30) as pool,
    ):
        list(pool.map(lambda number: ask(client, f"prompt {number}"), range(30)))
        assert server.server_stats(url)["most_at_once"] > 1


def test_server_goes_when_its_parent_is_killed() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from support.server import running_server
with running_server() as url:
    print(url, flush=True)
    sys.stdin.read()
"""
    # The server has this program's stderr as its own: the pipe ends when both of them are gone.
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
        parent.kill()
        _, said = parent.communicate(timeout=10)
    assert said == b""


def test_an_unknown_setting_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    starting: AbstractContextManager[str] = server.running_server(latencyy=1)
    with pytest.raises(RuntimeError, match="did not start: exit code 2"), starting:
        pass
    assert "unrecognized arguments: --latencyy=1" in capfd.readouterr().err


def test_quota_arithmetic() -> None:
    make: Callable[..., Any] = llm_server.Quota
    quota = make(per_minute=60, window=10, now=100.0)
    assert quota.wait_for(10, 100.0) == 0
    quota.take(10)
    assert quota.wait_for(4, 101.0) == pytest.approx(3.0)
    assert quota.wait_for(4, 104.0) == 0
    assert quota.wait_for(11, 1_000.0) == float("inf")
    assert quota.wait_for(10, 1_000.0) == 0  # never more than the window's worth
    assert make(per_minute=float("inf"), window=10, now=0.0).wait_for(1e9, 0.0) == 0
