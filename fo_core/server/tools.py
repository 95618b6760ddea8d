"""Function tools as the protocol writes them, checked."""

from __future__ import annotations

import re
from typing import Any

from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.server.messages import Refused

MAX_TOOLS = 128
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_tools(fields: dict[str, Any], now: ToolConfig, where: str) -> ToolConfig:
    """Functions after what a session or a response asks for.

    Args:
        fields: With ``tools``, ``tool_choice`` and ``parallel_tool_calls``; each may be missing.
        now: Those in force.
        where: Of the fields, for messages.

    Raises:
        Refused: A tool is no function, or the choice is none of them.
    """
    tools, choice, parallel = now.tools, now.choice, now.parallel
    if fields.get("tools") is not None:
        tools = tuple(_tool(tool, f"{where}.tools.{n}") for n, tool in enumerate(fields["tools"]))
        names = [tool["name"] for tool in tools]
        if len(tools) > MAX_TOOLS or len(set(names)) < len(names):
            raise Refused(f"at most {MAX_TOOLS} tools, each with its own name", f"{where}.tools")
    if fields.get("tool_choice") is not None:
        choice = fields["tool_choice"]
    if fields.get("parallel_tool_calls") is not None:
        parallel = fields["parallel_tool_calls"]
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            what = f"no tools of type {choice.get('type')!r} here"
            raise Refused(what, f"{where}.tool_choice", "unsupported")
        known = [tool["name"] for tool in tools]
        if choice.get("name") not in known:
            what = f"no tool {choice.get('name')!r}; possible: {', '.join(known) or 'none'}"
            raise Refused(what, f"{where}.tool_choice")
        choice = {"type": "function", "name": choice["name"]}
    return ToolConfig(tools, choice, parallel)


def _tool(tool: Any, where: str) -> dict[str, Any]:
    kind = tool.get("type", "function") if isinstance(tool, dict) else None
    if kind != "function":
        raise Refused(f"no tools of type {kind!r} here", where, "unsupported")
    name = tool.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refused("a function has a name of 1 to 64 letters, digits, _ . -", f"{where}.name")
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise Refused("parameters are a JSON schema", f"{where}.parameters")
    return {"name": name, "description": tool.get("description") or "", "parameters": parameters}


def shown(config: ToolConfig) -> dict[str, Any]:
    """The same as the protocol shows it in a session."""
    return {
        "tools": [{"type": "function", **tool} for tool in config.tools],
        "tool_choice": config.choice,
        "parallel_tool_calls": config.parallel,
    }
