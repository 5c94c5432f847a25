"""Whether a template's policies allow what a process of ours asks for, and nothing else.

    template = Template.load(ROOT / "template.yaml", {"Parameter": "value"}, {"MediaBucket": "recordings"})
    with recording(service.bucket.client, service.queue.client) as asked:    # every request, as IAM sees it
        ...                                                                 # let the process work
    assert not [ask for ask in asked if not allowed(template.statements("SweepFunction"), ask)]

A stand-in for IAM, and a small one: `Allow` and `Deny`, wildcards, and the conditions named in `_holds`; an
intrinsic function, an operation or a condition it does not know raises. Which action an S3 operation needs:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

Who may not list a bucket is told 403 for an object that is not there, where our code waits for 404. So
reading is two asks: `s3:GetObject`, and `s3:ListBucket` without the prefix that only a listing names.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import yaml  # type: ignore[import-untyped]

REGION = "us-east-1"
ACCOUNT = "123456789012"
NO_VALUE = object()

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": NO_VALUE,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/stack/id",
    "AWS::StackName": "stack",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that is asked for: the action, the resource's ARN, and what conditions may look at."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict, compare=False)


# What is asked for

_S3_ACTIONS = {
    "AbortMultipartUpload": ["s3:AbortMultipartUpload"],
    "CompleteMultipartUpload": ["s3:PutObject"],
    "CreateMultipartUpload": ["s3:PutObject"],
    "DeleteObject": ["s3:DeleteObject"],
    "DeleteObjects": ["s3:DeleteObject"],
    "CopyObject": ["s3:PutObject"],
    "GetObject": ["s3:GetObject", "s3:ListBucket"],
    "HeadBucket": ["s3:ListBucket"],
    "HeadObject": ["s3:GetObject", "s3:ListBucket"],
    "ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "ListObjectsV2": ["s3:ListBucket"],
    "ListParts": ["s3:ListMultipartUploadParts"],
    "PutObject": ["s3:PutObject"],
    "UploadPart": ["s3:PutObject"],
    "UploadPartCopy": ["s3:PutObject"],
}
_OF_A_BUCKET = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})


def asks_of_s3(operation: str, url: str, headers: Mapping[str, Any], body: Any) -> list[Ask]:
    """What a request to a path-style S3 server asks for."""
    parts = urlsplit(url)
    bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
    keys = [key]
    if operation == "DeleteObjects":
        document = body if isinstance(body, bytes | str) else body.read()
        keys = [each.text or "" for each in ElementTree.fromstring(document).iterfind("{*}Object/{*}Key")]
    context = {f"s3:{name}": values[0] for name, values in parse_qs(parts.query).items() if name == "prefix"}
    asks = [
        Ask(action, f"arn:aws:s3:::{bucket}", context)
        if action in _OF_A_BUCKET
        else Ask(action, f"arn:aws:s3:::{bucket}/{each}")
        for each in keys
        for action in _S3_ACTIONS[operation]
    ]
    source = headers.get("x-amz-copy-source")
    if source is not None:
        text = source.decode() if isinstance(source, bytes) else str(source)
        asks.append(Ask("s3:GetObject", f"arn:aws:s3:::{unquote(text.partition('?')[0]).removeprefix('/')}"))
    return asks


def ask_of_sqs(operation: str, body: Any) -> Ask:
    """What a request to SQS asks for."""
    queue = str(json.loads(body)["QueueUrl"]).rpartition("/")[2]
    return Ask(f"sqs:{operation.removesuffix('Batch')}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")


@contextmanager
def recording(*clients: Any) -> Iterator[list[Ask]]:
    """All that these clients of S3 and SQS ask for until the end of the block, from any thread.

    The SDK's `before-send` event tells, which our own way to the bucket emits as well.
    """
    asked: list[Ask] = []

    def tell(request: Any, event_name: str, **_: Any) -> None:
        service, operation = event_name.split(".")[1:]
        if service == "sqs":
            asked.append(ask_of_sqs(operation, request.body))
        else:
            asked.extend(asks_of_s3(operation, request.url, request.headers, request.body))

    for client in clients:
        client.meta.events.register("before-send", tell)
    try:
        yield asked
    finally:
        for client in clients:
            client.meta.events.unregister("before-send", tell)


# What is allowed


def allowed(statements: Iterable[Mapping[str, Any]], ask: Ask) -> bool:
    """Whether these statements of identity policies allow it: one that allows, and none that denies."""
    effects = [statement["Effect"] for statement in statements if applies(statement, ask)]
    return "Allow" in effects and "Deny" not in effects


def applies(statement: Mapping[str, Any], ask: Ask) -> bool:
    """Whether a statement is about it."""
    return (
        any(_matches(pattern.lower(), ask.action.lower()) for pattern in as_list(statement["Action"]))
        and any(_matches(pattern, ask.resource) for pattern in as_list(statement["Resource"]))
        and all(
            _holds(operator, as_list(values), ask.context.get(name))
            for operator, tests in statement.get("Condition", {}).items()
            for name, values in tests.items()
        )
    )


def as_list(value: Any) -> list[Any]:
    """One or many, as IAM has it, as many."""
    return value if isinstance(value, list) else [value]


def _matches(pattern: str, text: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _holds(operator: str, values: list[str], found: str | None) -> bool:
    if found is None and operator.endswith("IfExists"):
        return True
    match operator.removesuffix("IfExists"):
        case "StringEquals":
            return found in values
        case "StringLike":
            return found is not None and any(_matches(value, found) for value in values)
    raise NotImplementedError(f"condition {operator}")


# The template


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's short forms."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


@cache
def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), _Loader)
    return document


@dataclass(frozen=True)
class Template:
    """A template with values for its parameters, and names for what it makes (the logical id otherwise)."""

    document: dict[str, Any]
    parameters: Mapping[str, Any]
    names: Mapping[str, str]

    @classmethod
    def load(
        cls, path: Path, parameters: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None
    ) -> Self:
        """Read it. A parameter that is not given has its default."""
        return cls(_document(path), parameters or {}, names or {})

    def resource(self, id: str) -> dict[str, Any]:
        """A resource's properties, resolved."""
        properties: dict[str, Any] = self.resolve(self.document["Resources"][id].get("Properties", {}))
        return properties

    def statements(self, id: str) -> list[dict[str, Any]]:
        """What the policies say that are written into a role, or a function of SAM's, or attached to it."""
        policies = list(self.resource(id).get("Policies", []))
        for other, resource in self.document["Resources"].items():
            attached = ("AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::ManagedPolicy")
            if resource["Type"] in attached and self.exists(other):
                policy = self.resource(other)
                if self.name(id) in [*as_list(policy.get("Roles", [])), policy.get("RoleName")]:
                    policies.append(policy)
        found: list[dict[str, Any]] = []
        for policy in policies:
            if isinstance(policy, str):
                raise NotImplementedError(f"the managed policy {policy}")
            found += as_list(policy.get("PolicyDocument", policy)["Statement"])
        return found

    def exists(self, id: str) -> bool:
        """Whether the resource is made with these parameters."""
        condition = self.document["Resources"][id].get("Condition")
        return condition is None or self._condition(condition)

    def name(self, id: str) -> str:
        """What a resource is called."""
        return self.names.get(id, id)

    def arn(self, id: str) -> str:
        """A resource's ARN, or something like it."""
        kind = self.document["Resources"][id]["Type"]
        name = self.name(id)
        match kind:
            case "AWS::S3::Bucket":
                return f"arn:aws:s3:::{name}"
            case "AWS::IAM::Role":
                return f"arn:aws:iam::{ACCOUNT}:role/{name}"
            case "AWS::Logs::LogGroup":
                return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"
            case "AWS::ECR::Repository":
                return f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}"
        return f"arn:aws:{kind.split('::')[1].lower()}:{REGION}:{ACCOUNT}:{name}"

    def resolve(self, value: Any) -> Any:
        """A value without intrinsic functions."""
        if isinstance(value, list):
            return [each for each in map(self.resolve, value) if each is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument)
        return {key: found for key, each in value.items() if (found := self.resolve(each)) is not NO_VALUE}

    def _function(self, name: str, argument: Any) -> Any:
        match name, argument:
            case "Ref", str():
                return self._ref(argument)
            case "Fn::If", [condition, yes, no]:
                return self.resolve(yes if self._condition(condition) else no)
            case "Fn::GetAtt", [str(id), attribute]:
                return self.arn(id) if attribute == "Arn" else f"{self.name(id)}.{attribute}"
            case "Fn::Sub", str():
                return self._sub(argument, {})
            case "Fn::Sub", [str(text), dict(values)]:
                return self._sub(text, self.resolve(values))
            case "Fn::Join", [str(by), parts]:
                return by.join(map(str, self.resolve(parts)))
            case "Fn::Split", [str(by), text]:
                return str(self.resolve(text)).split(by)
            case "Fn::Select", [number, parts]:
                return self.resolve(parts)[int(number)]
            case "Fn::GetAZs", _:
                return [f"{REGION}{zone}" for zone in "abc"]
            case "Fn::Base64", text:
                return self.resolve(text)  # as it is: nobody here decodes it
            case "Fn::FindInMap", [first, second, third]:
                keys = self.resolve([first, second, third])
                return self.document["Mappings"][keys[0]][keys[1]][keys[2]]
        return self._logic(name, argument)

    def _logic(self, name: str, argument: Any) -> bool:
        match name, argument:
            case "Fn::Equals", [one, other]:
                return bool(self.resolve(one) == self.resolve(other))
            case "Fn::Not", [one]:
                return not self._condition(one)
            case "Fn::And", list():
                return all(map(self._condition, argument))
            case "Fn::Or", list():
                return any(map(self._condition, argument))
            case "Fn::EachMemberEquals", [members, value]:  # of rules
                return all(member == value for member in self.resolve(members))
        raise NotImplementedError(f"{name} of {argument!r}")

    def _condition(self, condition: Any) -> bool:
        if isinstance(condition, dict) and "Condition" in condition:
            condition = condition["Condition"]
        if isinstance(condition, str):
            condition = self.document["Conditions"][condition]
        ((name, argument),) = condition.items()
        return bool(self._condition(argument) if name == "Condition" else self._logic(name, argument))

    def _ref(self, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        declared = self.document.get("Parameters", {}).get(name)
        if declared is None:
            if name not in self.document["Resources"]:
                raise KeyError(f"there is neither a parameter nor a resource {name}")
            return self.name(name)
        if name not in self.parameters and "Default" not in declared:
            raise KeyError(f"the parameter {name} has no default: give it one")
        value = self.parameters.get(name, declared.get("Default"))
        is_list = declared["Type"] == "CommaDelimitedList" or declared["Type"].startswith("List<")
        return [each.strip() for each in value.split(",") if each.strip()] if is_list else value

    def _sub(self, text: str, values: Mapping[str, Any]) -> str:
        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in values:
                return str(values[name])
            id, _, attribute = name.partition(".")
            return str(self._function("Fn::GetAtt", [id, attribute]) if attribute else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", found, text)
