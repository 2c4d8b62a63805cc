"""A few operations that call the official package's functions; see `serve.py` for the protocol."""

import copy
import json
import re
from importlib import import_module
from typing import Any

import stand_ins  # type: ignore[import-not-found]  # beside this file, outside any package
from guard import CallGuard, evaluate_arithmetic  # type: ignore[import-not-found]

Answer = Any
"""One answer as in the official result files: text, or a list of `{function: JSON text of its arguments}`."""


class Official:
    """Questions, simulated tools and verdicts. `model` is `stand_ins.PROMPT` or `stand_ins.NATIVE` throughout."""

    def __init__(self) -> None:
        stand_ins.install()
        self._utils = import_module("bfcl_eval.utils")
        self._handlers = import_module("bfcl_eval.model_handler.utils")
        self._prompts = import_module("bfcl_eval.constants.default_prompts")
        self._enums = import_module("bfcl_eval.constants.enums")
        self._types = import_module("bfcl_eval.constants.type_mappings")
        self._runner = import_module("bfcl_eval.eval_checker.eval_runner")
        self._tools = import_module("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils")
        # A module's own name takes precedence over the builtin.
        vars(self._handlers)["eval"] = evaluate_arithmetic
        self._guard = CallGuard(vars(self._tools))
        vars(self._tools)["eval"] = self._guard
        self._loaded: dict[tuple[str, bool], dict[str, dict[str, Any]]] = {}
        self._truths: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, int] = {}

    def ids(self, category: str) -> list[str]:
        """Return the ids of a category's tasks."""
        return list(self._entries(category, hints=True))

    def question(self, id: str, model: str) -> dict[str, Any]:
        """Return the question to a model.

        Returns:
            `turns`: new messages of each turn; `tools`: for each turn, the schemas of the tools from then on, None if
            they are unchanged or in the messages; `steps`: the maximum number of answers in a turn, minus one.
        """
        entry = self._entry(id, hints=True)
        turns = entry["question"] if self._utils.is_multi_turn(id) else entry["question"][:1]
        functions, later = entry["function"], entry.get("missed_function", {})
        tools: list[Any] = [None] * len(turns)
        if model == stand_ins.NATIVE:
            tools[0] = self._schemas(functions)
        else:
            turns[0] = self._handlers.system_prompt_pre_processing_chat_model(turns[0], functions, id)
        for number, added in ((int(turn), added) for turn, added in later.items()):
            text = self._prompts.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_PROMPTING.format(functions=added)
            if model == stand_ins.NATIVE:
                functions = [*functions, *added]
                tools[number] = self._schemas(functions)
                text = self._prompts.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC
            turns[number] = [{"role": "user", "content": text}]
        return {"turns": turns, "tools": tools, "steps": self._prompts.MAXIMUM_STEP_LIMIT}

    def step(self, session: str, id: str, model: str, done: list[list[str]], answer: Answer) -> dict[str, Any]:
        """Execute the calls of one answer in a multi-turn task.

        Args:
            session: name of this play, under which its tools keep their state.
            done: calls of the play's earlier steps, executed again if this process has not executed them.

        Returns:
            `calls`: calls of the answer, empty if it has none and the turn is over; `results`: text of each result;
            `message`: the official user message with the results, for models that are asked by prompt; `refused`: the
            reason if a call was not executed, else None.
        """
        try:
            calls = _Handler(self._handlers, model).decode_execute(answer, False)
        except Exception:
            calls = []
        if self._tools.is_empty_execute_response(calls):
            return {"calls": [], "results": [], "message": "", "refused": None}
        entry = self._entry(id, hints=False)
        if self._steps.get(session, 0) != len(done):
            self.forget(session)
            for earlier in done:
                self._execute(earlier, entry, session)
        self._guard.refused = None
        results = self._execute(calls, entry, session)
        self._steps[session] = len(done) + 1
        decoded = {"model_responses_decoded": calls}
        message = self._handlers.format_execution_results_prompting({}, results, decoded)
        return {"calls": calls, "results": results, "message": message, "refused": self._guard.refused}

    def forget(self, session: str) -> None:
        """Delete a play's tools."""
        self._steps.pop(session, None)
        start = re.compile(rf"{re.escape(session)}_(ground_truth_|eval_)*multi_turn_")
        for name in [name for name in vars(self._tools) if start.match(name)]:
            del vars(self._tools)[name]

    def verdict(self, id: str, model: str, answer: Answer) -> dict[str, Any]:
        """Return the official verdict.

        Args:
            answer: the answer; for a multi-turn task, the answers of the steps of each turn.

        Returns:
            `valid`, and for an invalid answer `type` and `message`.
        """
        category = self._utils.extract_test_category_from_id(id)
        entry = self._entry(id, hints=False)
        handler = _Handler(self._handlers, model)
        if self._utils.is_relevance_or_irrelevance(category):
            judged = self._runner._evaluate_single_relevance_entry(handler, id, answer, entry, model, category)
        elif self._utils.is_multi_turn(category):
            truth = self._truth(category, id)
            judged = self._runner._evaluate_single_multi_turn_entry(handler, id, answer, truth, entry, model, category)
            self.forget(model)
        else:
            truth = self._truth(category, id)
            language, result_format = self._language(category)
            judged = self._runner._evaluate_single_ast_entry(
                handler, id, answer, truth, entry, model, category, language, result_format
            )
        if judged["valid"]:
            return {"valid": True}
        error = judged["error"]
        if isinstance(error, dict):  # of multi-turn tasks
            return {"valid": False, "type": error.get("error_type", ""), "message": str(error.get("error_message", ""))}
        message = "; ".join(map(str, error))
        return {"valid": False, "type": judged.get("error_type", ""), "message": message}

    def _execute(self, calls: list[str], entry: dict[str, Any], session: str) -> list[str]:
        long_context = "long_context" in self._utils.extract_test_category_from_id(entry["id"])
        results, _ = self._tools.execute_multi_turn_func_call(
            calls, entry["initial_config"], entry["involved_classes"], session, entry["id"], long_context
        )
        return list(results)

    def _entries(self, category: str, hints: bool) -> dict[str, dict[str, Any]]:
        if (category, hints) not in self._loaded:
            entries = self._utils.load_dataset_entry(category, include_language_specific_hint=hints)
            self._loaded[category, hints] = {entry["id"]: entry for entry in entries}
        return self._loaded[category, hints]

    def _entry(self, id: str, *, hints: bool) -> dict[str, Any]:
        """Return a copy of an entry, because the official code modifies its arguments.

        Args:
            hints: True to include the model's hints in the functions' documentation; the checker needs types without.
        """
        # Multi-turn tasks are judged by the effects of the tools; loading them twice would be slow.
        hints = hints or self._utils.is_multi_turn(id)
        return copy.deepcopy(self._entries(self._utils.extract_test_category_from_id(id), hints)[id])

    def _truth(self, category: str, id: str) -> Any:
        if category not in self._truths:
            truths = self._utils.load_ground_truth_entry(category)
            # Some have different ids; the order is the same.
            ids = self._entries(category, hints=self._utils.is_multi_turn(category))
            self._truths[category] = {id: truth["ground_truth"] for id, truth in zip(ids, truths, strict=True)}
        return copy.deepcopy(self._truths[category][id])

    def _schemas(self, functions: list[dict[str, Any]]) -> Any:
        style = self._enums.ModelStyle.OPENAI_COMPLETIONS
        return self._handlers.convert_to_tool(functions, self._types.GORILLA_TO_OPENAPI, style)

    def _language(self, category: str) -> tuple[Any, Any]:
        name = "JAVA" if self._utils.is_java(category) else "JAVASCRIPT" if self._utils.is_js(category) else "PYTHON"
        return self._enums.Language[name], self._enums.ReturnFormat[name]


class _Handler:
    """Reader of answers, like the official handlers for models asked by prompt and for OpenAI's with tools."""

    def __init__(self, handlers: Any, model: str) -> None:
        self._handlers = handlers
        self._is_native = model == stand_ins.NATIVE

    def decode_ast(self, result: Answer, language: Any, has_tool_call_tag: bool) -> Any:
        if not self._is_native:
            return self._handlers.default_decode_ast_prompting(result, language, has_tool_call_tag)
        return [{name: json.loads(text)} for call in result for name, text in call.items()]

    def decode_execute(self, result: Answer, has_tool_call_tag: bool) -> Any:
        if not self._is_native:
            return self._handlers.default_decode_execute_prompting(result, has_tool_call_tag)
        return self._handlers.convert_to_function_call(result)
