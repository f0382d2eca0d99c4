"""What child processes may see of our environment."""

import pytest

from archer_ws.core.child_processes import child_environment


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY", "OPENAI_APIKEY", "AUTH_TOKENS", "AWS_SECRET_ACCESS_KEY", "GITHUB_PAT", "HF_TOKEN",
        "https_proxy", "PGPASSWORD", "MYSQL_PWD", "SSHPASS", "SMTP_PASS", "DB_PASSWD", "SSH_KEY_PASSPHRASE",
    ],
)  # fmt: skip
def test_a_child_sees_no_variable_that_is_named_as_credentials_are(name: str) -> None:
    assert child_environment({name: "anything"}) == {}


def test_a_child_sees_no_credentials_under_another_name() -> None:
    assert child_environment({"DATABASE_URL": "postgres://me:s3cret@db/x", "MY_BOT": "sk-abcdefgh12345678"}) == {}


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "OLDPWD", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"]
)
def test_a_child_sees_what_native_code_needs(name: str) -> None:
    assert child_environment({name: "anything"}) == {name: "anything"}
