"""Speech, recognition and text engines: one file each, found by name, imported when asked for."""

from fo_core.registry import Registry

TTS = Registry("text-to-speech engine", "fo_core.engines.tts")
ASR = Registry("speech recognition engine", "fo_core.engines.asr")
LLM = Registry("LLM engine", "fo_core.engines.llm")
