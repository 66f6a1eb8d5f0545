"""A cloud's notice that this machine will be taken away → Ray's drain.

Ray's cluster launcher does not watch for it, so each machine runs `insetgan-batch spot-watch`
(ray_cluster.yaml starts it). AWS gives two minutes, GCP half a minute; the driver sees the drain
and lets the machine's actors hand back what they hold.

Where the facts come from: the clouds' own documents of their metadata servers (EC2 "spot/
instance-action" with a session token, Compute Engine "instance/preempted").
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

AWS_URL = "http://169.254.169.254"
GCP_URL = "http://metadata.google.internal"
_GCP_NOTICE_S = 30.0
_TOKEN_LASTS_S = 60
_ASK_EVERY_S = 2.0
_TIMEOUT_S = 2.0
# Past any proxy of the environment: the address is this machine's own, and means another's there.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_log = logging.getLogger(__name__)


def aws_seconds_left(url: str = AWS_URL) -> float | None:
    """Seconds until EC2 takes this machine away; None as long as it does not say so."""
    token = _ask(
        f"{url}/latest/api/token",
        {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LASTS_S)},
        method="PUT",
    )
    if token is None:
        return None
    answer = _ask(
        f"{url}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}
    )
    if answer is None:
        return None
    try:
        at = datetime.fromisoformat(json.loads(answer)["time"])
    except (ValueError, LookupError, TypeError):
        _log.warning("a notice that cannot be read, taken for one of 2 minutes: %s", answer[:200])
        return 120.0
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def gcp_seconds_left(url: str = GCP_URL) -> float | None:
    """Seconds until Compute Engine takes this machine away; None as long as it does not say so."""
    path = "/computeMetadata/v1/instance/preempted"
    answer = _ask(f"{url}{path}", {"Metadata-Flavor": "Google"})
    return _GCP_NOTICE_S if answer == "TRUE" else None


def watch(
    drain: Callable[[float], None],
    asks: tuple[Callable[[], float | None], ...] = (aws_seconds_left, gcp_seconds_left),
    every_s: float = _ASK_EVERY_S,
) -> float:
    """Ask until there is a notice, drain, and return the seconds that were left."""
    while True:
        for ask in asks:
            left_s = ask()
            if left_s is not None:
                _log.warning("this machine will be taken away in %.0f s", left_s)
                drain(left_s)
                return left_s
        time.sleep(every_s)


def drain_this_node(left_s: float) -> None:
    """Tell Ray that the node of this machine will be gone. Raises `CalledProcessError`."""
    import ray

    address = os.environ.get("RAY_ADDRESS", "auto")
    ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    context = ray.get_runtime_context()
    node_id, address = context.get_node_id(), context.gcs_address
    ray.shutdown()
    subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION"),
            *("--reason-message", "the cloud takes this machine away"),
            *("--deadline-remaining-seconds", str(max(1, round(left_s)))),
        ],
        check=True,
    )


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The answer's text; None where there is none: no such server, or no such thing yet."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with _direct.open(request, timeout=_TIMEOUT_S) as answer:
            text: str = answer.read(4096).decode(errors="replace")
            return text
    except (urllib.error.URLError, TimeoutError, OSError):
        return None
