"""The template of the GPU workers, as far as it can be judged without an AWS account.

Linters judge its form. What a worker asks for is recorded while one works against the real servers, and held
against the task role. Its alarms and steps scale a fleet that is made up (`scaling.py`); no emulator at hand
runs metric math or capacity providers, so nothing here was deployed.
"""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bucketscribe.bucket import Bucket
from bucketscribe.options import read_metadata
from bucketscribe.queue import Queue
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.up.home import Credentials
from bucketscribe.worker import inspection, protection
from bucketscribe.worker.main import GIVING_BACK_SECONDS, Worker, make_engine
from bucketscribe.worker.model_store import ModelStore, Progress
from pydantic import SecretStr

from tests.deploy.policies import ACCOUNT, REGION, Ask, Template, allowed, applies, as_list, recording
from tests.deploy.scaling import Fleet, breach
from tests.integration.conftest import Uploader, calling
from tests.integration.test_uploading import SPEECH
from tests.integration.test_working import OTHER_PLAN
from tests.receiver import receiving
from tests.unit.test_dockerfile import stages
from tests.website import Website

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "gpu-on-aws.md"
TEMPLATE = ROOT / "infra" / "gpu-worker.yaml"
TOOLS = ROOT / ".tools"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
SECRET = Credentials.new().webhook_secret
GIVEN = {"MediaBucket": "recordings", "JobQueueArn": QUEUE_ARN, "ImageTag": "1.0"}


def template(**parameters: Any) -> Template:
    return Template.load(TEMPLATE, GIVEN | parameters)


def container(**parameters: Any) -> dict[str, Any]:
    (only,) = template(**parameters).resource("Task")["ContainerDefinitions"]
    assert isinstance(only, dict)
    return only


def environment(**parameters: Any) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in container(**parameters)["Environment"]}


# Its form


def test_cfn_lint_has_nothing_to_say() -> None:
    done = subprocess.run([TOOLS / "sam/bin/cfn-lint", TEMPLATE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_checkov_has_nothing_to_say_but_what_the_template_answers() -> None:
    command: list[str | Path] = [
        TOOLS / "checkov/bin/checkov",
        "--file",
        TEMPLATE,
        "--framework",
        "cloudformation",
    ]
    done = subprocess.run(
        [*command, "--skip-download", "--output", "json"], capture_output=True, text=True, cwd=ROOT
    )
    report = json.loads(done.stdout)
    assert report["results"]["failed_checks"] == []
    assert report["summary"]["passed"] > 25
    answered = set(re.findall(r"checkov:skip=(CKV2?_AWS_\d+):\S", TEMPLATE.read_text()))
    assert {each["check_id"] for each in report["results"]["skipped_checks"]} == answered


def test_it_can_be_deployed_without_a_bucket_to_put_it_into_first() -> None:
    assert TEMPLATE.stat().st_size < 51_200  # what CloudFormation takes in a request


def test_what_it_needs_the_first_stack_puts_out() -> None:
    outputs = Template.load(ROOT / "template.yaml").document["Outputs"]
    assert {"MediaBucket", "JobQueueArn", "AlarmTopicArn"} <= set(outputs)
    wanted = {name for name, each in template().document["Parameters"].items() if "Default" not in each}
    assert wanted == {"MediaBucket", "JobQueueArn"}


def test_every_parameter_is_explained_and_in_a_group() -> None:
    document = template().document
    told = document["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in told["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(document["Parameters"]) == sorted(told["ParameterLabels"])
    assert all(each["Description"].endswith(".") for each in document["Parameters"].values())


# What it may do


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a worker that sends webhooks."""
    ours = {"webhook_secret": SecretStr(SECRET), "private_hosts": ("127.0.0.1",)}
    return settings.model_copy(update=ours)


@pytest.fixture
def uploader(service: Service) -> Iterator[Uploader]:
    with calling(service) as api:
        yield Uploader(api)


class Recorded:
    """Workers that work, and all that they asked of bucket and queue."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = make_engine(service.settings)
        self.asked: list[Ask] = []

    def work(self, *, told_to_stop: bool = False) -> None:
        """Find a job, and be done with it."""
        with recording(self.service.bucket.client, self.service.queue.client) as asked:
            worker = Worker(self.service, self.engine)
            claim = worker._next(0)
            assert claim is not None
            worker.stopping = int(told_to_stop)
            worker._work(claim)
            for thread in threading.enumerate():
                if thread.name.startswith("webhook "):
                    thread.join(20)
        self.asked += asked

    def inspect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`doctor --worker`, as far as it asks bucket and queue."""
        service = self.service
        monkeypatch.setattr(Bucket, "connect", lambda settings: service.bucket)
        monkeypatch.setattr(Queue, "connect", lambda settings: service.queue)
        with recording(service.bucket.client, service.queue.client) as asked:
            found = list(inspection._stores(service.settings))
        assert [(finding.name, finding.verdict) for finding in found] == [("bucket", "ok"), ("queue", "ok")]
        monkeypatch.undo()
        self.asked += asked

    def fetch(self, url: str, folder: Path) -> None:
        """Get models from a bucket."""
        store = ModelStore(self.service.settings, url)
        with recording(store._bucket.client) as asked:
            for kept in store.files():
                store.copy(kept, folder, Progress(kept.size))
        self.asked += asked


@pytest.fixture
def asked(service: Service, uploader: Uploader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Ask]:
    """What a worker asks for in its life: when all goes well, and when it does not."""
    workers = Recorded(service)
    workers.inspect(monkeypatch)

    def state(id: str) -> State:
        return service.transcriptions.get("local", id).record.state

    with receiving(SECRET) as receiver:
        done = uploader.send(SPEECH, language="en", webhook_url=receiver.url).id
        workers.work()
    assert state(done) is State.COMPLETED
    webhook = service.transcriptions.get("local", done).record.webhook
    assert webhook is not None
    assert webhook.delivered is not None

    unsent = uploader.send(SPEECH, language="en").id
    message = service.queue.receive(0)
    assert message is not None
    service.queue.delete(message)
    workers.work(told_to_stop=True)
    assert state(unsent) is State.QUEUED  # found by its marker, and given back with a message

    service.bucket.create(f"results/local/{unsent}/1/plan.json", OTHER_PLAN)
    workers.work()
    assert service.transcriptions.get("local", unsent).record.run == 2  # begun anew

    service.bucket.delete_all(f"uploads/local/{unsent}/")
    workers.work()
    assert state(unsent) is State.FAILED

    with Website() as site:
        site.put("/talk.wav", SPEECH)
        nothing_asked = read_metadata({}, service.settings)
        online = service.online.request("local", f"{site.url}/talk.wav", nothing_asked).record
        workers.work(told_to_stop=True)
        assert state(online.id) is State.QUEUED
        service.bucket.begin_upload(online.key, "audio/wav")  # as by one that died
        workers.work()
    assert state(online.id) is State.COMPLETED

    service.bucket.put("models/v1/whisper/some/model.bin", b"weights")
    workers.fetch(f"s3://{service.bucket.name}/models/v1", tmp_path)
    return workers.asked


def role_of(service: Service) -> Template:
    """The template for the bucket and the queue of the test."""
    queue = service.queue.url.rpartition("/")[2]
    return template(
        MediaBucket=service.bucket.name,
        JobQueueArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
        ModelsUrl=f"s3://{service.bucket.name}/models/v1",
    )


PROTECT = "ecs:UpdateTaskProtection"
MY_TASK = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/0123"


def test_a_worker_is_allowed_all_that_it_asks_for_and_nothing_else(
    service: Service, asked: list[Ask]
) -> None:
    statements = role_of(service).statements("TaskRole")
    asked = [*asked, Ask(PROTECT, MY_TASK)]  # by the agent, which is not here
    assert {ask for ask in asked if not allowed(statements, ask)} == set()
    for statement in statements:
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                grant = {**statement, "Action": action, "Resource": resource}
                assert any(applies(grant, ask) for ask in asked), f"nobody asks for {action} on {resource}"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:DeleteObject", "recordings/results/alice/1/1/transcript.json"),
        ("s3:DeleteObject", "recordings/records/alice/1.json"),
        ("s3:GetObject", "recordings/keys/1.json"),
        ("s3:PutObject", "recordings/keys/1.json"),
        ("s3:PutObject", "recordings/open/uploads/alice/1"),
        ("s3:GetObject", "others/uploads/alice/1/talk.wav"),
        ("s3:ListBucket", "others"),
    ],
)
def test_a_worker_that_a_recording_took_over_cannot(action: str, resource: str) -> None:
    assert not allowed(template().statements("TaskRole"), Ask(action, f"arn:aws:s3:::{resource}"))


def test_a_worker_protects_tasks_of_its_own_cluster_only() -> None:
    statements = template().statements("TaskRole")
    assert allowed(statements, Ask(PROTECT, MY_TASK))
    assert not allowed(statements, Ask(PROTECT, MY_TASK.replace("Cluster", "Other")))


def test_models_are_read_where_they_are_and_nowhere_else() -> None:
    statements = template(ModelsUrl="s3://our-models/v1").statements("TaskRole")
    assert allowed(statements, Ask("s3:GetObject", "arn:aws:s3:::our-models/v1/whisper/base/model.bin"))
    assert not allowed(statements, Ask("s3:GetObject", "arn:aws:s3:::our-models/v2/model.bin"))
    assert not template().exists("ModelsPolicy")


def test_ecs_reads_the_token_only_if_there_is_one() -> None:
    token = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:hf-123"
    ask = Ask("secretsmanager:GetSecretValue", token)
    assert allowed(template(HfTokenSecretArn=token).statements("ExecutionRole"), ask)
    assert not allowed(template().statements("ExecutionRole"), ask)
    assert container(HfTokenSecretArn=token)["Secrets"] == [
        {"Name": "BUCKETSCRIBE_HF_TOKEN", "ValueFrom": token}
    ]
    assert "Secrets" not in container()


def test_a_worker_signs_webhooks_only_if_it_is_told_to() -> None:
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:webhooks-123"
    ask = Ask("secretsmanager:GetSecretValue", secret)
    assert allowed(template(WebhookSecretArn=secret).statements("ExecutionRole"), ask)
    assert not allowed(template().statements("ExecutionRole"), ask)
    assert container(WebhookSecretArn=secret)["Secrets"] == [
        {"Name": "BUCKETSCRIBE_WEBHOOK_SECRET", "ValueFrom": secret}
    ]


def test_the_image_is_pulled_from_its_repository_alone() -> None:
    pull = "ecr:BatchGetImage"
    for given, name in (({}, "Repository"), ({"RepositoryName": "team/worker"}, "team/worker")):
        statements = template(**given).statements("ExecutionRole")
        assert container(**given)["Image"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}:1.0"
        assert template(**given).exists("Repository") is not bool(given)
        assert allowed(statements, Ask(pull, f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}"))
        assert not allowed(statements, Ask(pull, f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/other"))


# What a worker is told


def settings_of(monkeypatch: pytest.MonkeyPatch, **parameters: str) -> Settings:
    """The settings a worker has, of the image's environment and the task's."""
    for name in list(os.environ):
        if name.startswith("BUCKETSCRIBE_"):
            monkeypatch.delenv(name)
    image = stages()["whisperx"]
    arguments = dict(rest.replace('"', "").split("=", 1) for rest in image.all("ARG") if "$" not in rest)
    told = {
        name: re.sub(r"\$\{.*\}", arguments["MODEL"], value) for name, value in image.environment().items()
    }
    for name, value in (told | environment(**parameters)).items():
        if name.startswith("BUCKETSCRIBE_"):
            monkeypatch.setenv(name, value)
    return Settings()


def test_the_environment_of_the_task_is_one_of_settings() -> None:
    known = {f"BUCKETSCRIBE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in environment() if name not in known} == set()


def test_a_worker_starts_with_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(monkeypatch)
    service = Service.connect(settings)
    assert service.bucket.name == "recordings"
    assert service.queue.url == f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/jobs"
    assert service.bucket.client.meta.endpoint_url == "https://s3.amazonaws.com"
    assert (settings.engine, settings.models_url, settings.region) == ("whisperx", None, REGION)
    # In a service, one that ends when it is idle would only be started again.
    assert settings.worker_idle_exit_seconds is None
    assert settings_of(monkeypatch, ModelsUrl="s3://our-models/v1").models_url == "s3://our-models/v1"


def test_a_worker_is_not_told_the_secret_of_the_api() -> None:
    assert "resolve:" not in json.dumps(environment())
    assert "BUCKETSCRIBE_SECRET" not in environment()


def test_what_a_worker_still_does_when_it_is_told_to_stop_fits_into_the_time_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs = settings_of(monkeypatch).stop_seconds + GIVING_BACK_SECONDS + protection.END_SECONDS
    assert needs < container()["StopTimeout"] <= timedelta(minutes=2).total_seconds()


def test_its_health_is_asked_for_as_the_image_says() -> None:
    (said,) = stages()["whisperx"].all("HEALTHCHECK")
    options, _, command = said.partition(" CMD ")
    asked = container()["HealthCheck"]
    assert asked["Command"] == ["CMD", *json.loads(command)]
    seconds = dict(re.findall(r"--([a-z-]+)=(\d+)", options))
    assert (asked["Interval"], asked["Timeout"], asked["StartPeriod"], asked["Retries"]) == tuple(
        int(seconds[name]) for name in ("interval", "timeout", "start-period", "retries")
    )


def test_a_worker_writes_where_its_image_does_and_nowhere_else() -> None:
    assert container()["ReadonlyRootFilesystem"] is True
    written = {"HOME", "TMPDIR", "HF_HOME", "TORCH_HOME", "BUCKETSCRIBE_DATA_DIR"}
    image = stages()["whisperx"].environment()

    def mounted(**given: str) -> set[str]:
        volumes = {each["Name"] for each in template(**given).resource("Task")["Volumes"]}
        mounts = container(**given)["MountPoints"]
        assert {each["SourceVolume"] for each in mounts} == volumes
        return {each["ContainerPath"] for each in mounts}

    assert mounted() == {"/data"}
    assert all(Path(image[name]).is_relative_to("/data") for name in written)
    assert mounted(ModelsUrl="s3://our-models/v1") == {"/data", image["BUCKETSCRIBE_MODELS_DIR"]}


# Where it runs


def test_a_network_is_made_only_where_none_is_named() -> None:
    own = ["Network", "Gateway", "GatewayAttachment", "Routes", "WayOut", "WayToS3"]
    named = template(VpcId="vpc-12", SubnetIds="subnet-1, subnet-2")
    assert all(template().exists(id) for id in own)
    assert not any(named.exists(id) for id in own)
    assert template().resource("Group")["VPCZoneIdentifier"] == ["SubnetA", "SubnetB", "SubnetC"]
    assert named.resource("Group")["VPCZoneIdentifier"] == ["subnet-1", "subnet-2"]
    assert named.resource("MachineAccess")["VpcId"] == "vpc-12"


@pytest.mark.parametrize(
    ("vpc", "subnets", "fine"),
    [("", "", True), ("vpc-12", "subnet-1,subnet-2", True), ("vpc-12", "", False), ("", "subnet-1", False)],
)
def test_a_network_is_named_whole_or_not_at_all(vpc: str, subnets: str, fine: bool) -> None:
    named = template(VpcId=vpc, SubnetIds=subnets)
    (rule,) = named.document["Rules"]["NetworkIsNamedWhole"]["Assertions"]
    assert named.resolve(rule["Assert"]) is fine


def test_nobody_reaches_a_worker() -> None:
    access = template().resource("MachineAccess")
    assert "SecurityGroupIngress" not in access
    # The second is for recordings at http addresses.
    ports = {(each["FromPort"], each["ToPort"]) for each in access["SecurityGroupEgress"]}
    assert ports == {(443, 443), (80, 80)}


def test_spot_and_instance_types_are_by_parameter() -> None:
    def policy(**given: str) -> dict[str, Any]:
        found = template(**given).resource("Group")["MixedInstancesPolicy"]
        assert isinstance(found, dict)
        return found

    def types(**given: str) -> list[str]:
        return [each["InstanceType"] for each in policy(**given)["LaunchTemplate"]["Overrides"]]

    share = "OnDemandPercentageAboveBaseCapacity"
    assert policy()["InstancesDistribution"][share] == 100
    assert policy(Purchase="spot")["InstancesDistribution"][share] == 0
    assert types() == ["g6.xlarge", "g5.xlarge", "g4dn.xlarge"]
    assert types(InstanceType="g6e.xlarge", OtherInstanceType="", ThirdInstanceType="") == ["g6e.xlarge"]


def test_a_machine_gives_its_role_to_no_container_and_drains_when_it_is_taken_away() -> None:
    machine = template().resource("Machine")["LaunchTemplateData"]
    assert machine["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert machine["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert "\nECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n" in machine["UserData"]
    assert "\nECS_CLUSTER=Cluster\n" in machine["UserData"]
    # On an instance that is drained, only what a service may do without is stopped.
    assert template().resource("Service")["DeploymentConfiguration"]["MinimumHealthyPercent"] < 100


def test_a_machine_with_a_task_is_not_ended() -> None:
    provider = template().resource("Machines")["AutoScalingGroupProvider"]
    assert provider["ManagedTerminationProtection"] == provider["ManagedDraining"] == "ENABLED"
    assert template().resource("Group")["NewInstancesProtectedFromScaleIn"] is True
    # Deleted first is what needs the others.
    assert template().document["Resources"]["Service"]["DependsOn"] == "ClusterMachines"


@pytest.mark.parametrize("off", [{"ImageTag": ""}, {"MaxWorkers": "0"}])
def test_nothing_is_started_without_an_image_or_when_all_are_stopped(off: dict[str, Any]) -> None:
    stopped = template(**{name: int(value) if value.isdigit() else value for name, value in off.items()})
    assert stopped.resource("Service")["DesiredCount"] == 0
    assert {stopped.resource("Scaling")[name] for name in ("MinCapacity", "MaxCapacity")} == {0}
    assert stopped.resource("Group")["MaxSize"] == 1  # of none, ECS could not scale it in
    # Otherwise no deployment changes how many there are.
    assert "DesiredCount" not in template().resource("Service")


def test_the_first_deployment_that_is_described_names_no_image() -> None:
    """ECS starts one worker of a new service that is told no number, whatever waits."""
    first, then = re.findall(r"aws cloudformation deploy [^`]+?(?=\n\n|```)", GUIDE.read_text())[:2]
    assert "ImageTag" not in first
    assert "ImageTag=" in then
    assert template().document["Parameters"]["ImageTag"]["Default"] == ""


# How many there are


def fleet(*, least: int = 0, most: int = 20, **parameters: Any) -> Fleet:
    scaled = template(**{"MinWorkers": least, "MaxWorkers": most, **parameters})
    target = scaled.resource("Scaling")
    pairs = [
        (scaled.resource(alarm), scaled.resource(policy)["StepScalingPolicyConfiguration"])
        for alarm, policy in (("MoreWorkersNeeded", "MoreWorkers"), ("WorkersIdle", "FewerWorkers"))
    ]
    assert [alarm["AlarmActions"] for alarm, _ in pairs] == [["MoreWorkers"], ["FewerWorkers"]]
    more, fewer = pairs
    return Fleet(more, fewer, least=target["MinCapacity"], most=target["MaxCapacity"])


def test_the_steps_are_one_for_each_number_of_workers() -> None:
    steps = template().resource("MoreWorkers")["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert [each["ScalingAdjustment"] for each in steps] == list(range(1, 21))
    assert [each["MetricIntervalLowerBound"] for each in steps] == list(range(20))
    assert [each["MetricIntervalUpperBound"] for each in steps[:-1]] == list(range(1, 20))
    assert template().document["Parameters"]["MaxWorkers"]["MaxValue"] == 20


def test_the_first_job_starts_one_worker_and_the_last_ends_it() -> None:
    """From none: without a division by none, and without another for each minute that the first takes."""
    made_up = fleet()
    made_up.minutes(5)
    assert made_up.desired == 0
    made_up.waiting = [3]
    made_up.minutes(2)
    assert made_up.desired == 1
    made_up.minutes(60)
    assert (max(made_up.seen), made_up.desired, made_up.workers) == (1, 0, [])


@pytest.mark.parametrize("least", [0, 1])
def test_the_first_is_started_whatever_is_made_of_a_metric_without_a_value(least: int) -> None:
    """Of a service without a task nothing is told, for as far back as an alarm looks."""
    made_up = fleet(least=least)
    made_up.fills_nothing = True
    made_up.minutes(3)
    assert made_up.desired == least
    made_up.waiting = [3] * 6
    made_up.minutes(2)
    assert made_up.desired == 2
    made_up.minutes(90)
    assert (made_up.desired, made_up.waiting) == (least, [])


def test_how_many_there_were_in_the_last_rush_does_not_count() -> None:
    made_up = fleet(JobsPerWorker=5)
    made_up.waiting = [4] * 20
    made_up.minutes(120)
    assert made_up.desired == 0
    made_up.seen.clear()
    made_up.waiting = [4]
    made_up.minutes(60)
    assert max(made_up.seen) == 1


def test_who_is_on_the_way_is_given_up_when_the_backlog_shrinks() -> None:
    made_up = fleet(JobsPerWorker=5)
    made_up.waiting = [4] * 23
    made_up.minutes(3)
    assert made_up.desired == 5
    del made_up.waiting[3:]  # canceled, say
    made_up.minutes(2)
    assert made_up.desired == len(made_up.workers) == 1
    made_up.minutes(20)
    assert made_up.waiting == []


def test_a_worker_is_kept_for_the_minutes_it_may_be_idle() -> None:
    made_up = fleet(IdleMinutes=20)
    made_up.waiting = [3]
    made_up.minutes(60)
    alive = made_up.seen.count(1)
    idle = alive - made_up.comes_in - made_up.loads_for - 3
    assert 20 <= idle <= 24


def test_a_backlog_starts_as_many_as_it_needs_and_no_more_while_they_come() -> None:
    made_up = fleet(JobsPerWorker=5)
    made_up.waiting = [4] * 23
    made_up.minutes(2 + made_up.comes_in + made_up.loads_for)
    assert max(made_up.seen) == 5
    made_up.minutes(120)
    assert max(made_up.seen) == 5
    assert (made_up.desired, made_up.waiting) == (0, [])


def test_there_are_never_more_than_the_most() -> None:
    made_up = fleet(most=3)
    made_up.waiting = [4] * 200
    made_up.minutes(60)
    assert max(made_up.seen) == 3 == len(made_up.workers)


def test_a_backlog_that_grows_starts_more() -> None:
    made_up = fleet(JobsPerWorker=5)
    made_up.waiting = [60]
    made_up.minutes(15)
    assert made_up.desired == 1
    made_up.waiting = [10] * 12
    made_up.minutes(2)
    assert made_up.desired == 3


@pytest.mark.parametrize("others", [1, 2, 5])
def test_a_long_job_keeps_its_worker_and_no_other(others: int) -> None:
    """Its message is gone from the queue: that the queue is empty must end nobody who works."""
    made_up = fleet(JobsPerWorker=1)
    made_up.waiting = [240, *[5] * others]
    made_up.minutes(90)
    assert max(made_up.seen) == 1 + others
    (left,) = made_up.workers
    assert left.works_for > 0
    assert set(made_up.seen[-30:]) == {1}  # for fewer, ECS would refuse to protect it
    made_up.minutes(240)
    assert made_up.workers == []


def test_many_idle_workers_go_in_steps_that_leave_none_waiting() -> None:
    made_up = fleet(JobsPerWorker=1)
    made_up.waiting = [2] * 16
    made_up.minutes(12)
    assert made_up.desired == 16
    made_up.minutes(15 + 20)
    assert made_up.desired == 0


def test_a_backlog_that_shrinks_ends_no_worker_even_if_a_metric_is_not_told() -> None:
    made_up = fleet(JobsPerWorker=5)
    made_up.waiting = [60] * 20
    made_up.minutes(20)
    assert made_up.desired == 4
    made_up.waiting = [60] * 3
    made_up.minutes(3)
    made_up.silent = True
    made_up.minute()
    made_up.silent = False
    made_up.minutes(5)
    assert set(made_up.seen[-9:]) == {4}


def test_one_that_is_kept_warm_is_started_and_stays() -> None:
    made_up = fleet(least=1)
    made_up.minutes(120)
    assert made_up.desired == 1
    assert len(made_up.workers) == 1


@pytest.mark.parametrize(
    ("alarm", "metrics", "on"),
    [
        ("NoWorkerComes", {"waiting": 2, "running": None}, True),
        ("NoWorkerComes", {"waiting": 2, "running": 1}, False),
        ("NoWorkerComes", {"waiting": 0, "running": None}, False),
        ("JobsWaitLong", {"age": 3700, "running": 1}, True),
        ("JobsWaitLong", {"age": 3500, "running": 1}, False),
        ("JobsWaitLong", {"age": 3700, "running": None}, False),
    ],
)
@pytest.mark.parametrize("fills_nothing", [False, True])
def test_alarms_are_on_when_somebody_must_do_something(
    alarm: str, metrics: dict[str, float | None], on: bool, fills_nothing: bool
) -> None:
    found = template().resource(alarm)
    series = {
        ("ApproximateNumberOfMessagesVisible", "Minimum"): [metrics.get("waiting")] * 40,
        ("ApproximateAgeOfOldestMessage", "Maximum"): [metrics.get("age")] * 40,
        ("MemoryUtilization", "SampleCount"): [metrics["running"]] * 40,
    }
    assert (breach(found, series, fills_nothing=fills_nothing) is not None) is on


def test_alarms_tell_a_topic_if_there_is_one() -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
    for alarm in ("NoWorkerComes", "JobsWaitLong", "WorkerFails"):
        assert template(AlarmTopicArn=topic).resource(alarm)["AlarmActions"] == [topic]
        assert "AlarmActions" not in template().resource(alarm)
