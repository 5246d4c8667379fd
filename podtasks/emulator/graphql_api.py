"""GraphQL: the schema's fields bound to the cloud. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    specified_rules,
    validate,
)
from graphql.language import StringValueNode, ValueNode

from podtasks.emulator import catalogue
from podtasks.emulator.caller import Caller
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.errors import GENERIC_TEXT, CloudError, ForbiddenError, InputError
from podtasks.emulator.orders import cpu_order, gpu_order, spot_order
from podtasks.emulator.views import view_account, view_gpu_type, view_pod

Arguments = dict[str, Any]
Resolver = Callable[["_Context", Arguments], Any]


@dataclass(frozen=True)
class _Context:
    cloud: Cloud
    caller: Caller


class GraphQLApi:
    """Answers GraphQL requests from the state of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._schema = _load_schema()

    def operations(self, query: str) -> list[str]:
        """Return the names of a request's top-level fields, or none when it cannot be parsed."""
        try:
            return _top_fields(parse(query))
        except GraphQLError:
            return []

    def answer(
        self, caller: Caller, query: str, variables: Arguments | None, operation_name: str | None
    ) -> dict[str, Any]:
        """Execute a request.

        Returns:
            the response's JSON: always an answer, with `errors` for everything that went wrong.
        """
        try:
            document = parse(query)
        except GraphQLError as error:
            return _refusal([error], "GRAPHQL_PARSE_FAILED")
        problems = validate(self._schema, document, [*specified_rules, NoSchemaIntrospectionCustomRule])
        if problems:
            return _refusal(problems, "GRAPHQL_VALIDATION_FAILED")
        result = execute_sync(
            self._schema,
            document,
            context_value=_Context(self._cloud, caller),
            variable_values=variables,
            operation_name=operation_name,
            field_resolver=_resolve,
        )
        return _formatted(result)


def _my_account(context: _Context, _arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    return view_account(context.cloud)


def _pod(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    pod_id = (arguments.get("input") or {}).get("podId") or ""
    if not context.caller.may_touch(pod_id):
        raise ForbiddenError
    pod = context.cloud.pods.find(pod_id)
    return None if pod is None else view_pod(context.cloud, pod)


def _gpu_types(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    wish = arguments.get("input") or {}
    ids = [wish["id"]] if wish.get("id") else wish.get("ids")
    return [view_gpu_type(context.cloud, gpu) for gpu in catalogue.GPU_TYPES.values() if ids is None or gpu.id in ids]


def _update_user_settings(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    context.cloud.account.public_key = (arguments.get("input") or {}).get("pubKey") or ""
    context.cloud.save()
    return view_account(context.cloud)


def _pod_find_and_deploy_on_demand(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    order = gpu_order(context.cloud, arguments.get("input") or {})
    return view_pod(context.cloud, context.cloud.create_pod(order))


def _pod_rent_interruptable(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    order = spot_order(context.cloud, arguments["input"])
    return view_pod(context.cloud, context.cloud.create_pod(order))


def _deploy_cpu_pod(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    order = cpu_order(context.cloud, arguments["input"])
    return view_pod(context.cloud, context.cloud.create_pod(order))


def _pod_stop(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    pod_id = _own_pod_id(context, arguments)
    return view_pod(context.cloud, context.cloud.stop_pod(pod_id))


def _pod_terminate(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.cloud.terminate_pod(_own_pod_id(context, arguments))


def _pod_resume(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    wish = arguments["input"]
    return view_pod(context.cloud, context.cloud.resume_pod(wish["podId"], wish.get("gpuCount")))


def _pod_bid_resume(context: _Context, arguments: Arguments) -> Any:  # noqa: ANN401
    context.caller.require_account()
    wish = arguments["input"]
    pod = context.cloud.resume_pod(wish["podId"], wish["gpuCount"], wish["bidPerGpu"])
    return view_pod(context.cloud, pod)


_RESOLVERS: dict[str, Resolver] = {
    "myself": _my_account,
    "pod": _pod,
    "gpuTypes": _gpu_types,
    "updateUserSettings": _update_user_settings,
    "podFindAndDeployOnDemand": _pod_find_and_deploy_on_demand,
    "podRentInterruptable": _pod_rent_interruptable,
    "deployCpuPod": _deploy_cpu_pod,
    "podStop": _pod_stop,
    "podTerminate": _pod_terminate,
    "podResume": _pod_resume,
    "podBidResume": _pod_bid_resume,
}


def _resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:  # noqa: ANN401
    if info.parent_type.name in ("Query", "Mutation"):
        return _RESOLVERS[info.field_name](info.context, arguments)
    value = source.get(info.field_name)
    return value(arguments.get("input") or {}) if callable(value) else value


def _own_pod_id(context: _Context, arguments: Arguments) -> str:
    pod_id = str(arguments["input"]["podId"])
    if not context.caller.may_touch(pod_id):
        raise ForbiddenError
    return pod_id


def _load_schema() -> GraphQLSchema:
    schema = build_schema(Path(__file__).with_name("schema.graphql").read_text(), assume_valid=True)
    moment: Any = schema.type_map["DateTime"]
    # graphql-core 3.2's names and 3.3's.
    moment.parse_value = moment.coerce_input_value = _parse_moment
    moment.parse_literal = moment.coerce_input_literal = _parse_moment_literal
    return schema


def _parse_moment(value: object) -> str:
    """Take RFC 3339 times only; RunPod's DateTime refuses durations such as "1h" (runpodctl#330)."""
    text = value if isinstance(value, str) else ""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text:
        raise GraphQLError(f"DateTime cannot represent an invalid date-time-string {value}.")
    return text


def _parse_moment_literal(node: ValueNode, _variables: object = None) -> str:
    return _parse_moment(node.value if isinstance(node, StringValueNode) else None)


def _top_fields(document: DocumentNode) -> list[str]:
    return [
        selection.name.value
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
        for selection in definition.selection_set.selections
        if isinstance(selection, FieldNode)
    ]


def _refusal(errors: list[GraphQLError], code: str) -> dict[str, Any]:
    return {"errors": [{**error.formatted, "extensions": {"code": code}} for error in errors]}


def _formatted(result: ExecutionResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = [_formatted_error(error) for error in result.errors]
    return answer


def _formatted_error(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    formatted: dict[str, Any] = dict(error.formatted)
    if isinstance(cause, CloudError):
        formatted["extensions"] = {"code": cause.code}
    elif cause is not None and not isinstance(cause, GraphQLError):
        _report(cause)
        formatted.update(message=GENERIC_TEXT, extensions={"code": CloudError.code})
    else:
        formatted["extensions"] = {"code": InputError.code}
    return formatted


def _report(problem: BaseException) -> None:
    """Show a fault of the emulator itself; the client only gets RunPod's general words."""
    import sys
    import traceback

    traceback.print_exception(type(problem), problem, problem.__traceback__, file=sys.stderr)
