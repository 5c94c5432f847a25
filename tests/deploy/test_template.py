"""What the template says, without deploying it: what no emulator carries out, what must never be there."""

import json
import os
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bucketscribe.api.app import EXPOSED_HEADERS
from bucketscribe.presign import Address
from bucketscribe.settings import Settings
from pydantic import SecretStr

from tests.deploy.ministack import ROOT, TOOLS
from tests.deploy.policies import Ask, Template, allowed, as_list

pytestmark = pytest.mark.deploy

TEMPLATE = ROOT / "template.yaml"
FUNCTIONS = ("ApiFunction", "CompletionFunction", "SweepFunction", "DeadLettersFunction")
BUCKET = "recordings"
KEPT = ("records/", "open/", "keys/", "quota/")
"""What no rule of the bucket's may end."""


def template(**parameters: str) -> Template:
    return Template.load(TEMPLATE, parameters, {"MediaBucket": BUCKET})


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AWS_DEFAULT_REGION": "us-east-1", "SAM_CLI_TELEMETRY": "0"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def rules(**parameters: str) -> list[dict[str, Any]]:
    bucket = template(**parameters).resource("MediaBucket")
    return list(bucket["LifecycleConfiguration"]["Rules"])


def globals_of(declared: Template) -> dict[str, Any]:
    found: dict[str, Any] = declared.document["Globals"]["Function"]
    return found


# By the tools


def test_cfn_lint_has_nothing_to_say() -> None:
    linted = run(TOOLS / "sam/bin/cfn-lint", TEMPLATE)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def test_sam_finds_it_valid() -> None:
    validated = run(TOOLS / "sam/bin/sam", "validate", "--lint", "--template", TEMPLATE)
    assert validated.returncode == 0, validated.stderr
    assert "is a valid SAM Template" in validated.stdout


def test_checkov_finds_nothing_but_what_is_justified() -> None:
    checked = run(
        *(TOOLS / "checkov/bin/checkov", "--file", TEMPLATE, "--framework", "cloudformation"),
        *("--skip-download", "--output", "json"),
    )
    results = json.loads(checked.stdout)["results"]
    assert len(results["passed_checks"]) > 50
    assert [(found["check_id"], found["resource"]) for found in results["failed_checks"]] == []
    reasons = {skipped["check_result"]["suppress_comment"] for skipped in results["skipped_checks"]}
    assert all(reason.endswith(".") for reason in reasons)


TRANSLATE = """
import json, sys, yaml
from samcli.lib.translate.sam_template_validator import SamTemplateValidator
from samcli.yamlhelper import yaml_parse
translated = SamTemplateValidator(yaml_parse(sys.stdin.read()), None).get_translated_template_if_valid()
print(json.dumps(yaml.safe_load(translated), default=str))
"""
WITHIN_ANOTHER = {"AWS::Lambda::Alias", "AWS::ApiGatewayV2::Stage"}
"""What has a name only in its function or its API."""
PHYSICAL_NAME = re.compile(r"(Alarm|Bucket|Function|LogGroup|ManagedPolicy|Queue|Role|Rule|Stage|Topic)?Name")


def test_a_second_stack_of_the_account_has_other_names() -> None:
    """Also of what SAM makes of the template."""
    translated = subprocess.run(
        [TOOLS / "sam/bin/python", "-c", TRANSLATE],
        input=TEMPLATE.read_text(),
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert translated.returncode == 0, translated.stderr
    resources = json.loads(translated.stdout)["Resources"]
    assert resources["SweepFunctionMinute"]["Type"] == "AWS::Scheduler::Schedule"
    named = {
        (id, name)
        for id, resource in resources.items()
        for name, value in resource.get("Properties", {}).items()
        if PHYSICAL_NAME.fullmatch(name) and isinstance(value, str) and resource["Type"] not in WITHIN_ANOTHER
    }
    assert named == set()


# The bucket


def test_what_nobody_finishes_is_aborted_after_a_day() -> None:
    aborting = {rule["Prefix"]: rule["AbortIncompleteMultipartUpload"] for rule in rules()}
    assert aborting == {
        "uploads/": {"DaysAfterInitiation": 1},
        "inbox/": {"DaysAfterInitiation": 1},
        "tus/": {"DaysAfterInitiation": 1},
    }


def test_recordings_and_results_are_kept_unless_days_are_given() -> None:
    assert not [rule for rule in rules() if "ExpirationInDays" in rule]
    expiring = rules(KeepRecordingsDays="30", KeepResultsDays="365")
    days = {rule["Prefix"]: rule["ExpirationInDays"] for rule in expiring if "ExpirationInDays" in rule}
    assert days == {"uploads/": "30", "results/": "365"}


def test_no_rule_reaches_records_or_the_whole_bucket() -> None:
    for rule in rules(KeepRecordingsDays="1", KeepResultsDays="1"):
        prefix = rule["Prefix"]
        assert rule.keys() <= {
            *("Id", "Status", "Prefix", "ExpirationInDays", "AbortIncompleteMultipartUpload")
        }
        assert prefix.endswith("/")
        assert not any(kept.startswith(prefix) or prefix.startswith(kept) for kept in KEPT)
        # What was sent and acknowledged lies there until its upload ends.
        assert not (prefix.startswith("tus/") and "ExpirationInDays" in rule)


def test_pages_of_the_site_and_of_the_api_reach_the_bucket_and_see_the_etag() -> None:
    own = "https://HttpApi.execute-api.us-east-1.amazonaws.com"
    [rule] = template().resource("MediaBucket")["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == [own]
    site = template(AllowedOrigins="https://app.example.com,https://example.org").resource("MediaBucket")
    [rule] = site["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == [own, "https://app.example.com", "https://example.org"]
    assert {"GET", "PUT", "POST"} <= set(rule["AllowedMethods"])
    assert {"ETag", "Location"} <= set(rule["ExposedHeaders"])


def test_the_bucket_is_private_encrypted_and_outlives_the_stack() -> None:
    declared = template()
    resource = declared.document["Resources"]["MediaBucket"]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
    bucket = declared.resource("MediaBucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "BucketEncryption" in bucket
    assert "VersioningConfiguration" not in bucket
    policy = declared.document["Resources"]["MediaBucketPolicy"]
    assert (policy["DeletionPolicy"], policy["UpdateReplacePolicy"]) == ("Retain", "Retain")
    [tls] = declared.resource("MediaBucketPolicy")["PolicyDocument"]["Statement"]
    assert tls["Effect"] == "Deny"
    assert (tls["Principal"], tls["Action"]) == ("*", "s3:*")
    assert tls["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": False}}


def test_finished_objects_are_told_of_in_uploads_and_inbox_only() -> None:
    told = template().resource("MediaBucket")["NotificationConfiguration"]["QueueConfigurations"]
    prefixes = [one["Filter"]["S3Key"]["Rules"] for one in told]
    assert prefixes == [[{"Name": "prefix", "Value": prefix}] for prefix in ("uploads/", "inbox/")]
    assert {one["Event"] for one in told} == {"s3:ObjectCreated:*"}


def test_acceleration_is_another_endpoint_for_signing() -> None:
    plain, fast = template(), template(TransferAcceleration="true")
    assert "AccelerateConfiguration" not in plain.resource("MediaBucket")
    assert fast.resource("MediaBucket")["AccelerateConfiguration"] == {"AccelerationStatus": "Enabled"}
    variables = fast.resolve(globals_of(fast)["Environment"]["Variables"])
    settings = Settings(s3_public_endpoint=variables["BUCKETSCRIBE_S3_PUBLIC_ENDPOINT"], bucket=BUCKET)
    address = Address.of(settings.public_endpoint or "", settings.bucket, settings.path_style)
    assert address.origin == f"https://{BUCKET}.s3-accelerate.amazonaws.com"


# Policies


@pytest.mark.parametrize("id", FUNCTIONS)
def test_a_function_may_do_named_things_to_named_things(id: str) -> None:
    declared = template()
    role = declared.document["Resources"][id]["Properties"]["Role"]
    assert role == {"Fn::GetAtt": [id.replace("Function", "Role"), "Arn"]}
    for statement in declared.statements(role["Fn::GetAtt"][0]):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"]))
        for resource in as_list(statement["Resource"]):
            service = resource.split(":")[2]
            assert service in ("s3", "sqs", "logs")
            # Below a folder of the bucket's, or of every run's, or the streams of the one log group.
            name = resource.split(":", 5)[5]
            folders = rf"{BUCKET}/([a-z]+/(jobs/)?\*|results/\*/names-\*)"
            assert re.fullmatch(rf"[A-Za-z]+|{BUCKET}|{folders}|log-group:FunctionLogs:\*", name)


def test_only_the_api_may_read_keys_and_nobody_may_write_them() -> None:
    declared = template()
    about_keys = {
        (id, action)
        for id in FUNCTIONS
        for statement in declared.statements(id.replace("Function", "Role"))
        for resource in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
        if resource.startswith(f"arn:aws:s3:::{BUCKET}/keys/")
    }
    assert about_keys == {("ApiFunction", "s3:GetObject")}


def test_only_buckets_of_the_account_may_send_arrivals() -> None:
    [statement] = template().resource("ArrivalsQueuePolicy")["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"},
    }


# The functions and the API


def test_the_settings_of_the_functions_are_ours_and_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = template(
        Auth="keys,oidc",
        OidcIssuer="https://id.example.com",
        OidcAudience="bucketscribe",
        AllowedOrigins="https://a.example",
    )
    variables = declared.resolve(globals_of(declared)["Environment"]["Variables"])
    for name, value in variables.items():
        assert name.removeprefix("BUCKETSCRIBE_").lower() in Settings.model_fields
        monkeypatch.setenv(name, str(value))
    settings = Settings()
    assert settings.auth == ("keys", "oidc")
    assert settings.s3_public_endpoint is None
    assert settings.log_format == "json"
    assert settings.allowed_origins == ("https://a.example",)


def test_only_who_needs_a_secret_has_it() -> None:
    declared = template()
    had = {
        id: {
            name
            for name, value in declared.resource(id).get("Environment", {}).get("Variables", {}).items()
            if "resolve:secretsmanager" in str(value)
        }
        for id in FUNCTIONS
    }
    webhooks = "BUCKETSCRIBE_WEBHOOK_SECRET"
    assert had == {
        "ApiFunction": {"BUCKETSCRIBE_SECRET", webhooks},
        "CompletionFunction": set(),
        "SweepFunction": {webhooks},
        "DeadLettersFunction": set(),
    }
    assert "BUCKETSCRIBE_SECRET" not in globals_of(declared)["Environment"]["Variables"]


def test_the_secret_of_webhooks_is_made_as_one_has_to_be() -> None:
    made = template().resource("WebhookSecret")["GenerateSecretString"]
    excluded = {"ExcludePunctuation": True, "ExcludeCharacters": string.punctuation}
    assert made == excluded | {"PasswordLength": 48}
    assert Settings(webhook_secret=SecretStr("aB3" * 16)).webhook_secret is not None


def test_the_defaults_are_those_of_the_settings() -> None:
    declared = template()
    for parameter, setting in {
        "Model": "model",
        "MaxUploadBytes": "max_upload_bytes",
        "UploadIdleSeconds": "upload_idle_seconds",
    }.items():
        default = declared.document["Parameters"][parameter]["Default"]
        assert default == Settings.model_fields[setting].default
    models = declared.document["Parameters"]["AllowedModels"]["Default"]
    assert tuple(models.split(",")) == Settings.model_fields["allowed_models"].default


def test_another_value_of_a_setting_makes_another_version_of_the_api() -> None:
    declared = template()

    def named(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(named, value))
        if isinstance(value, dict):
            found = set().union(*map(named, value.values()))
            conditions = {value["Fn::If"][0]} if "Fn::If" in value else set()
            return found | conditions | ({value["Ref"]} if "Ref" in value else set())
        return set()

    parameters = set(declared.document["Parameters"])
    api = declared.document["Resources"]["ApiFunction"]["Properties"]
    told = named(globals_of(declared)["Environment"]) - {"Accelerated"} | {"TransferAcceleration"}
    assert named(api["VersionDescription"]) == told & parameters


def test_the_functions_are_built_from_one_folder_by_its_makefile() -> None:
    declared = template()
    assert globals_of(declared)["CodeUri"] == "functions/"
    assert globals_of(declared)["Runtime"] == "python3.13"
    for id in FUNCTIONS:
        function = declared.document["Resources"][id]
        assert function["Metadata"]["BuildMethod"] == "makefile"
        module = function["Properties"]["Handler"].removesuffix(".handler")
        assert (ROOT / "functions" / f"{module.replace('.', '/')}.py").is_file()
        assert f"{id} " in (ROOT / "functions" / "Makefile").read_text().replace("\n", " ")


def test_queues_of_functions_wait_longer_than_these_and_report_what_failed() -> None:
    declared = template()
    for function, queue in (
        ("CompletionFunction", "ArrivalsQueue"),
        ("DeadLettersFunction", "DeadJobsQueue"),
    ):
        properties = declared.document["Resources"][function]["Properties"]
        assert declared.resource(queue)["VisibilityTimeout"] >= 6 * properties["Timeout"]
        [event] = properties["Events"].values()
        assert event["Properties"]["Queue"] == {"Fn::GetAtt": [queue, "Arn"]}
        assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        # Of the ten executions that a new account has, these leave six to the API and the sweep.
        assert event["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 2}
    for queue, dead in (("ArrivalsQueue", "DeadArrivalsQueue"), ("JobQueue", "DeadJobsQueue")):
        redrive = declared.resource(queue)["RedrivePolicy"]
        assert redrive == {"deadLetterTargetArn": declared.arn(dead), "maxReceiveCount": 5}


def test_the_gateway_answers_pages_as_the_api_does() -> None:
    assert "CorsConfiguration" not in template().resource("HttpApi")
    cors = template(AllowedOrigins="https://app.example.com").resource("HttpApi")["CorsConfiguration"]
    assert cors["AllowOrigins"] == ["https://app.example.com"]
    assert cors["AllowHeaders"] == ["authorization", "*"]
    assert cors["ExposeHeaders"] == EXPOSED_HEADERS
    assert "AllowCredentials" not in cors


def test_requests_are_throttled_and_logged_without_their_paths() -> None:
    stage = template(RequestsPerSecond="7", RequestsBurst="9").resource("HttpApiStage")
    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": "7", "ThrottlingBurstLimit": "9"}
    # Values as the gateway puts them there; the one that has quotation marks of its own is messageString.
    line = re.sub(
        r"\$context\.([A-Za-z.]+)",
        lambda named: '"Not Found"' if named[1].endswith("String") else f"the {named[1]}",
        stage["AccessLogSettings"]["Format"],
    )
    told = json.loads(line)
    assert {"requestId", "status", "integrationError"} <= told.keys()
    assert told["error"] == "the error.message"
    assert not re.search(r"path|uri|query|routeKey|authorizer", stage["AccessLogSettings"]["Format"], re.I)


def test_every_alarm_is_told_and_explained() -> None:
    declared = template(AlarmEmail="me@example.com")
    alarms = [
        id for id, one in declared.document["Resources"].items() if one["Type"] == "AWS::CloudWatch::Alarm"
    ]
    explained = (ROOT / "docs/aws.md").read_text()
    for id in alarms:
        alarm = declared.resource(id)
        assert alarm["AlarmActions"] == ["AlarmTopic"]
        section = re.search(r"See docs/aws.md, (\w+)\.$", alarm["AlarmDescription"])
        assert section is not None
        assert f"`{section[1]}`" in explained
    assert declared.exists("AlarmSubscription")
    assert not template().exists("AlarmSubscription")


def test_each_parameter_is_described_and_in_one_group() -> None:
    document = template().document
    interface = document["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(document["Parameters"]) == sorted(interface["ParameterLabels"])
    explained = (ROOT / "docs/aws.md").read_text()
    for name, parameter in document["Parameters"].items():
        assert "Default" in parameter
        assert parameter["Description"].endswith(".")
        assert f"`{name}`" in explained


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("results/ann/1/1/names-12/transcript.json", True),
        ("results/ann/1/1/transcript.json", False),
        ("results/names-ann/1/1/plan.json", False),
    ],
)
def test_of_results_the_api_writes_transcripts_with_new_names_only(key: str, may: bool) -> None:
    ask = Ask("s3:PutObject", f"arn:aws:s3:::{BUCKET}/{key}")
    assert allowed(template().statements("ApiRole"), ask) is may
