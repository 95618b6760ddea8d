"""``fo serve``: talk to a model from a browser or any Realtime client."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fo_cli import options, render
from fo_core.devices.compute import choose
from fo_core.errors import EngineError, FoError, first_line
from fo_core.hub import is_hub_name
from fo_core.registry import did_you_mean
from fo_core.shipped import DEFAULT

KEY_VARIABLE = "FO_API_KEY"
WEEK = 10_080  # minutes


def read_options(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a YAML file as the command's defaults.

    Raises:
        FoError: It is no YAML mapping, or names no option of the command.
    """
    if path is None or context.resilient_parsing:
        return path
    import yaml

    options.existing_file(path, "configuration")
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FoError(f"{path} is no YAML: {first_line(error)}") from error
    if not isinstance(data, dict):
        raise FoError(f"{path} is no YAML mapping", possible="lines such as `users: 16`")
    known = {o.removeprefix("--"): p for p in context.command.params for o in p.opts}
    known = {option: p for option, p in known.items() if option not in ("config", "help")}
    found: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            do = f"set the key by the variable {KEY_VARIABLE}" if "key" in str(key) else None
            raise FoError(f"{path}: no option {key!r}", did_you_mean(str(key), sorted(known)), do)
        several = getattr(known[key], "multiple", False) and not isinstance(value, list)
        found[str(known[key].name)] = [value] if several else value
    context.default_map = found
    return path


def serve(
    model: options.Model = options.DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 opens it to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port.")] = 8000,
    users: Annotated[
        int, typer.Option("--users", min=1, help="Maximum number of users at a time.")
    ] = 8,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker threads per model.")] = 1,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            help="Device of the model: auto, cpu, cuda, cuda:N or mps. May be repeated: one "
            "model on each, and users are spread over them.",
        ),
    ] = None,
    weights: options.Weights = "auto",
    certificate: Annotated[
        Path | None, typer.Option("--tls-cert", help="PEM certificate: serve https and wss.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--tls-key", help="PEM private key of the certificate.")
    ] = None,
    session_minutes: Annotated[
        float,
        typer.Option(
            "--session-minutes", min=0.1, max=WEEK, help="Maximum length of a session, minutes."
        ),
    ] = 60.0,
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--origin",
            help="Origin of another site whose pages may connect, such as https://example.com; "
            "may be repeated.",
        ),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(
            "--drain-seconds",
            min=0,
            max=86_400,
            help="Seconds that running replies may take to end after SIGTERM.",
        ),
    ] = 30.0,
    log_format: Annotated[
        Literal["text", "json"], typer.Option("--log-format", help="Format of the log on stderr.")
    ] = "text",
    log_level: Annotated[
        Literal["debug", "info", "warning"],
        typer.Option(
            "--log-level", help="Lowest level that is logged; debug includes health checks."
        ),
    ] = "info",
    sets: options.Sets = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            callback=read_options,
            is_eager=True,
            help="YAML file of options, such as `users: 16`; the command line takes precedence.",
            metavar="YAML",
        ),
    ] = None,
) -> None:
    """Serve the Realtime protocol, the Socket.IO dialect and a web page on one port.

    The page is at http://HOST:PORT/, the protocol at ws://HOST:PORT/v1/realtime. With the
    environment variable FO_API_KEY set, clients must send that key. --set overrides how the model
    talks (dialogue.json of its folder). SIGTERM and Ctrl-C let running replies end; a second one
    stops at once.
    """
    _port_free(host, port)
    named = str(model)
    model = options.model_folder(model)
    known = named == DEFAULT or is_hub_name(named)
    name = named if known else "/".join(model.resolve().parts[-2:])  # as clients see it
    if (certificate is None) != (private_key is None):
        raise FoError("TLS needs a certificate and its key", do="give --tls-cert and --tls-key")
    if certificate is not None and private_key is not None:
        _check_pair(certificate, private_key)
    try:
        import uvicorn

        from fo_core.server import logs
        from fo_core.server.access.origins import check_origin
        from fo_core.server.app import ServeConfig, make_app
        from fo_core.server.drain import Drain, DrainingServer
    except ImportError as error:
        raise EngineError(
            f"the server needs the package {error.name}", do="pip install 'freeze-omni[serve]'"
        ) from error
    pages = tuple(check_origin(origin) for origin in origins or ())
    key = os.environ.get(KEY_VARIABLE) or None
    if host not in ("127.0.0.1", "localhost", "::1") and key is None:
        render.note(f"anyone who reaches {host} can talk; set {KEY_VARIABLE} to want a key")

    from fo_core.dialogue.sessions.pool import Pool, PoolConfig
    from fo_core.dialogue.settings import read_dialogue

    dialogue = read_dialogue(model, sets or ())
    places = [choose(each) for each in device or ["auto"]]
    models = [options.ready_model(model, dialogue, weights, place) for place in places]
    seconds = 60 * session_minutes
    limits = PoolConfig(workers=workers, max_sessions=users, session_seconds=seconds)
    pool = Pool(models, dialogue, limits)
    cfg = ServeConfig(
        host=host,
        port=port,
        api_key=key,
        session_seconds=seconds,
        certificate=certificate,
        private_key=private_key,
        origins=pages,
    )
    drain = Drain(drain_seconds)
    app = make_app(pool, dialogue, name, models[0].config.llm.system or "", cfg, drain)
    web = "https" if certificate else "http"
    render.note(f"talk at {web}://{host}:{port}/ (Ctrl-C ends it)")
    logs.setup(log_format, log_level)
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        ws_max_size=cfg.message_bytes,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        timeout_graceful_shutdown=3,
    )
    logs.say("server started", model=name, url=f"{web}://{host}:{port}/", users=users)
    server = DrainingServer(settings, drain, lambda: pool.stats().sessions > 0)
    server.run()
    if not server.started:
        raise typer.Exit(1)
    if server.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


def _check_pair(certificate: Path, private_key: Path) -> None:
    """Say what is wrong with the TLS files before a model is loaded."""
    import ssl

    options.existing_file(certificate, "certificate")
    options.existing_file(private_key, "private key")
    try:
        ssl.create_default_context().load_cert_chain(certificate, private_key)
    except (ssl.SSLError, OSError) as error:
        raise FoError(
            f"{certificate} and {private_key} are no certificate and its private key: {error}",
            possible="two PEM files that belong together",
        ) from error


def _port_free(host: str, port: int) -> None:
    """Say that the port is taken before a model is loaded."""
    import socket

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        do = f"give another {'--host' if elsewhere else '--port'}"
        raise FoError(f"cannot listen at {host}:{port}: {reason}", do=do) from error
