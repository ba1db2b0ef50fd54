"""Files of the deployment are valid YAML, and agree with each other and with the server's options."""

import re
from inspect import signature
from pathlib import Path

import yaml

from showo_turbo.cli.serve import serve
from showo_turbo.serving.limits import LimitOptions

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def flags(arguments: list[str]) -> dict[str, str]:
    """Return the options of a command line, each of which has a value."""
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def deployment() -> dict:
    return next(yaml.safe_load_all((DEPLOY / "kubernetes" / "showo-turbo.yaml").read_text()))


def test_options_of_the_server_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    known = {"--" + name.replace("_", "-") for name in (*signature(serve).parameters, *vars(LimitOptions()))}
    commands = [one["command"] for one in compose["services"].values() if "command" in one]
    commands.append(deployment()["spec"]["template"]["spec"]["containers"][0]["args"])
    assert len(commands) == 3
    for command in commands:
        assert flags(command).keys() <= known
        assert "--api-keys-file" in flags(command)


def test_time_to_end_is_longer_than_the_time_to_drain() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    container = pod["containers"][0]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > before + float(flags(container["args"])["--drain-seconds"]) + 5
    for one in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        if "command" in one:
            assert seconds(one["stop_grace_period"]) > float(flags(one["command"])["--drain-seconds"]) + 5


def test_probes_and_scrapes_reach_the_servers_routes() -> None:
    template = deployment()["spec"]["template"]
    container = template["spec"]["containers"][0]
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert template["metadata"]["annotations"]["prometheus.io/path"] == "/metrics"
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(container["ports"][0]["containerPort"])


def test_the_image_holds_what_it_copies_and_no_more() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE)
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert " ".join(copied).split() == sent
    assert all((ROOT / name).exists() for name in sent)
    assert "USER 10001" in dockerfile
    assert "HEALTHCHECK" in dockerfile
