"""The command ``tinytroupe``: a demonstration, benchmarks, and the mock model as a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tinytroupe._version import __version__
from tinytroupe.llm.model import ModelError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 well, 1 a floor missed, 2 wrong use or no model, 130 stopped."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ModelError) as error:
        parser.exit(2, f"tinytroupe: {error}\n")


def _parser() -> argparse.ArgumentParser:
    from tinytroupe.benchmarks import command
    from tinytroupe.benchmarks.general import GENERAL
    from tinytroupe.benchmarks.parallel import PARALLEL
    from tinytroupe.benchmarks.plan_keys import KEYS

    parser = argparse.ArgumentParser(prog="tinytroupe", description="Simulate people with language models, fast.")
    parser.add_argument("--version", action="version", version=f"tinytroupe {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="let people talk to each other, offline on the mock model or with a real one"
    )
    demo.add_argument("--people", type=int, default=3, metavar="N", help="how many, default %(default)s")
    demo.add_argument("--steps", type=int, default=2, metavar="N", help="how many steps, default %(default)s")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="seed of people and mock, default %(default)s")
    demo.add_argument("--online", action="store_true", help="ask the model of the settings; needs OPENAI_API_KEY")
    demo.set_defaults(run=_demo)

    bench = commands.add_parser(
        "bench",
        help="measure speed, memory and recovery, next to the guide's figures and lower bounds; or plan a large run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["keys of --plan:", *(f"  {name:18}{key.meaning}" for name, key in KEYS.items())]),
    )
    command.add_options(bench, {**GENERAL, **PARALLEL})
    bench.add_argument(
        "--plan",
        nargs="+",
        metavar="KEY=VALUE",
        help="predict what a run would take in time, calls, tokens, money, memory and shards, without running it: "
        "such as --plan people=100000 latency=lognormal:1.2,0.5 rpm=10000 (--json - writes JSON to the terminal)",
    )
    bench.set_defaults(run=lambda chosen: _bench(chosen, bench))

    server = commands.add_parser("mock-server", help="serve the mock model over HTTP until Ctrl-C")
    server.add_argument("--host", default="127.0.0.1", help="default %(default)s")
    server.add_argument("--port", type=int, default=0, metavar="N", help="0, the default: any free one")
    server.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")
    server.add_argument(
        "--latency", default="0", help="seconds per call, or e.g. lognormal:1.2,0.5; default %(default)s"
    )
    server.add_argument("--rpm", type=float, metavar="N", help="requests per minute before it answers 429")
    server.add_argument("--tpm", type=float, metavar="N", help="tokens per minute before it answers 429")
    server.add_argument(
        "--chunk-delay",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds between events of a stream; default %(default)s",
    )
    server.add_argument("--script", metavar="FILE", help="JSON lines with rules and replies")
    server.add_argument("--replay", metavar="FILE", help="answer from this recording")
    server.add_argument("--timing", action="store_true", help="with --replay: take as long as was recorded")
    server.add_argument(
        "--record",
        metavar="FILE",
        help="pass requests on to --base-url and record the answers in FILE, instead of answering",
    )
    server.add_argument("--base-url", metavar="URL", help="with --record: the real endpoint, its /v1 included")
    server.set_defaults(run=_mock_server)
    return parser


def _bench(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from tinytroupe.benchmarks import command
    from tinytroupe.benchmarks.general import GENERAL
    from tinytroupe.benchmarks.parallel import PARALLEL

    if arguments.plan is not None:
        return command.run_plan(arguments, parser)
    return command.run(arguments, {**GENERAL, **PARALLEL})


def _demo(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from tinytroupe.environment import TinyWorld
    from tinytroupe.examples import troupe
    from tinytroupe.runtime.clock import VirtualClock, use_clock
    from tinytroupe.testing import MockLLM

    with ExitStack() as stack:
        if not arguments.online:
            stack.enter_context(use_clock(stack.enter_context(VirtualClock())))
            stack.enter_context(MockLLM(seed=arguments.seed, latency=1.0))
        world = TinyWorld("Demo", troupe(arguments.people, seed=arguments.seed), on_error="raise")
        world.make_everyone_accessible()
        for agent in world.agents:
            print(agent.minibio())
        world.broadcast("Good morning! Please introduce yourselves, and tell us how you spend a free day.")
        for step in range(arguments.steps):
            print(f"\nStep {step + 1}")
            for actions in world.run(1, return_actions=True) or ():
                for name, done in actions.items():
                    for action in done:
                        if action.type != "DONE":
                            to = f" to {action.target}" if action.target else ""
                            print(f"  {name} [{action.type}{to}] {action.content}")
        metrics = world.get_parallel_metrics()
        print(
            f"\n{metrics['model_calls']} model calls, {metrics['tokens']:,} tokens, {metrics['elapsed_s']:.1f} s "
            f"({metrics['avg_parallel_speedup']:.1f} people at once)"
        )
        if not arguments.online:
            print("Offline, on the mock model: its words mean nothing. With a key: tinytroupe demo --online")
    return 0


def _mock_server(arguments: argparse.Namespace) -> int:
    if arguments.record is not None:
        from tinytroupe.testing import Recorder
        from tinytroupe.testing.proxy import run_proxy

        run_proxy(Recorder(arguments.record, arguments.base_url), host=arguments.host, port=arguments.port)
        return 0

    from tinytroupe.testing import run_server

    run_server(
        host=arguments.host,
        port=arguments.port,
        seed=arguments.seed,
        latency=arguments.latency,
        chunk_delay=arguments.chunk_delay,
        rpm=arguments.rpm,
        tpm=arguments.tpm,
        script=arguments.script,
        replay=arguments.replay,
        timing=arguments.timing,
    )
    return 0
