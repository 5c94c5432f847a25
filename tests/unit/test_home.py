"""The data folder of `make up`: what is kept in it from one start to the next."""

import json
from pathlib import Path

from bucketscribe.settings import Settings
from bucketscribe.up.home import claim


def test_a_folder_of_an_earlier_version_gets_a_secret_for_webhooks_and_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    earlier = {"access_key": "A" * 20, "secret_key": "b" * 40, "secret": "c" * 43}
    file.write_text(json.dumps(earlier))
    with claim(tmp_path) as home:
        first, second = home.credentials(), home.credentials()
    assert first == second
    assert json.loads(file.read_text()) == earlier | {"webhook_secret": first.webhook_secret}
    assert Settings(webhook_secret=first.webhook_secret).webhook_secret is not None
