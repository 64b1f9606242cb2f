"""`scalerctl run`: the daemon, in the foreground, until the world ends or a signal comes.

`--world` is a virtual cluster behind HTTP, `--kubernetes` a real one. Logs go to standard error,
one JSON object a line. Ends with status 1 where an invariant broke or the world failed, with 2
where it cannot start.
"""

import argparse
import socket
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4

from scheduler.adapters.ledger import LedgerFormatError
from scheduler.adapters.prometheus.connection import Connection
from scheduler.adapters.prometheus.gpus import utilisation
from scheduler.adapters.prometheus.signals import PrometheusSignals
from scheduler.adapters.statefile import beside
from scheduler.apiserver.client import ApiError, ApiUnreachableError, ConfigurationError
from scheduler.cli.terminal import PROGRAM, CommandError, Subparsers
from scheduler.extender.process import ExtenderGoneError, PortInUseError
from scheduler.https import TlsError
from scheduler.planning.policy import PolicyError
from scheduler.simulation.remote import WorldRefusedError
from scheduler.wiring.cluster import ClusterSettings, run_on_cluster
from scheduler.wiring.parts import LOOPBACK
from scheduler.wiring.world import DaemonSettings, run_daemon

BROKEN = 1
MOST_PORT = 65535
NAMESPACE = "tidal-system"


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("run", help="run the daemon against a world or a cluster")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--world", metavar="URL", help="a virtual cluster, http://HOST:PORT")
    where.add_argument("--kubernetes", action="store_true", help="a real cluster")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="read again when it changes")
    parser.add_argument(
        "--ledger", required=True, type=Path, metavar="FILE", help="made where there is none"
    )
    parser.add_argument(
        "--forecast-state",
        type=Path,
        metavar="FILE",
        help="what the forecaster has learnt, kept for the next start; default: beside the ledger",
    )
    parser.add_argument(
        "--port", type=port, default=9330, help="of the API for people; 0: any free one"
    )
    parser.add_argument(
        "--extender-port", type=port, default=9331, help="of the extender; 0: any free one"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log ticks without actions too"
    )
    _add_cluster(parser.add_argument_group("with --kubernetes"))
    parser.set_defaults(handle=handle)


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl")
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig")
    group.add_argument(
        "--namespace", default=NAMESPACE, help=f"of lease, plan and policy; default: {NAMESPACE}"
    )
    group.add_argument(
        "--identity",
        default=socket.gethostname(),
        help="how people know this replica; default: the host's name",
    )
    group.add_argument(
        "--policy-configmap",
        default="tidal-policy",
        metavar="NAME",
        help="where there is no --policy; default: tidal-policy",
    )
    group.add_argument("--prometheus", metavar="URL", help="that scrapes the engines")
    group.add_argument("--prometheus-token-file", type=Path, metavar="FILE")
    group.add_argument("--prometheus-ca", type=Path, metavar="FILE")
    group.add_argument("--listen", default=LOOPBACK, metavar="ADDRESS", help="default: loopback")
    group.add_argument("--health-port", type=port, help="for probes, without TLS")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="of API and extender")
    group.add_argument("--tls-key", type=Path, metavar="FILE")
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="who signed it; told to users of a kubeconfig"
    )
    group.add_argument(
        "--extender-client-ca",
        type=Path,
        metavar="FILE",
        help="who signs the certificate that kube-scheduler shows",
    )
    group.add_argument("--bind", action="store_true", help="let /bind create Bindings")


def port(text: str) -> int:
    """Return a port number, or 0 for any free one."""
    if not text.isdecimal() or int(text) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to {MOST_PORT}")
    return int(text)


def handle(args: argparse.Namespace) -> int:
    """Run the daemon."""
    try:
        return _on_cluster(args) if args.kubernetes else _on_world(args)
    except PolicyError as error:
        raise CommandError(*(f"--policy: {line}" for line in error.errors)) from None
    except LedgerFormatError as error:
        raise CommandError(f"--ledger: {error}") from None
    except sqlite3.Error as error:
        raise CommandError(f"--ledger: {args.ledger}: {error}; name another file") from None
    except PortInUseError as error:
        raise CommandError(f"--extender-port: {error.strerror}") from None
    except TlsError as error:
        raise CommandError(f"--tls-cert: {error}") from None
    except (ConfigurationError, ApiUnreachableError, ApiError) as error:
        raise CommandError(f"--kubeconfig: {error}") from None
    except (WorldRefusedError, ExtenderGoneError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BROKEN


def _on_world(args: argparse.Namespace) -> int:
    if args.policy is None:
        raise CommandError("--policy: is missing; name a policy file")
    settings = DaemonSettings(
        world_url=args.world,
        policy=args.policy,
        ledger=args.ledger,
        forecast_state=args.forecast_state or beside(args.ledger),
        api_port=args.port,
        extender_port=args.extender_port,
        verbose=args.verbose,
    )
    return run_daemon(settings)


def _on_cluster(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if args.prometheus is None:
        raise CommandError("--prometheus: is missing; name the Prometheus that scrapes the engines")
    connection = Connection(
        args.prometheus, token_file=args.prometheus_token_file, ca_file=args.prometheus_ca
    )
    return run_on_cluster(
        settings,
        lambda policy: PrometheusSignals(connection, policy),
        lambda now_seconds: utilisation(connection, now_seconds),
    )


def settings_of(args: argparse.Namespace) -> ClusterSettings:
    """Return the settings, or raise `CommandError` for options that do not go together."""
    if (args.tls_cert is None) != (args.tls_key is None):
        raise CommandError("--tls-cert: needs --tls-key, and the reverse; give both or none")
    if args.extender_client_ca is not None and args.tls_cert is None:
        raise CommandError("--extender-client-ca: needs --tls-cert and --tls-key")
    if args.listen != LOOPBACK and args.tls_cert is None:
        raise CommandError("--listen: others can reach this address; give --tls-cert and --tls-key")
    return ClusterSettings(
        kubeconfig=args.kubeconfig,
        context=args.context,
        namespace=args.namespace,
        identity=f"{args.identity}_{uuid4().hex[:8]}",
        policy_file=args.policy,
        policy_configmap=args.policy_configmap,
        ledger=args.ledger,
        forecast_state=args.forecast_state or beside(args.ledger),
        listen=args.listen,
        api_port=args.port,
        extender_port=args.extender_port,
        health_port=args.health_port,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        tls_authority=args.tls_ca,
        extender_client_ca=args.extender_client_ca,
        bind=args.bind,
        verbose=args.verbose,
    )
