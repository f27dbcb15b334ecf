"""Migration of the tables from schema 1."""

import pytest
from sqlalchemy import text

from catimage.errors import InputError
from catimage.serving.state.migrations import migrate
from catimage.serving.state.store import State
from catimage.serving.state.tables import SCHEMA_VERSION


class TestMigrations:
    def test_a_renamed_column_is_migrated_and_keys_stay_valid(self, state, url):
        _, secret = state.keys.create("a", rate_limit="60/minute")
        with state._database.write() as connection:
            rename = "ALTER TABLE catimage_keys RENAME COLUMN rate_limit TO rate"
            connection.execute(text(rename))
            version = "UPDATE catimage_meta SET value = '1' WHERE name = 'schema_version'"
            connection.execute(text(version))
        with pytest.raises(
            InputError, match=r"\(schema 1\)\. Stop its replicas, and run 'catimage"
        ):
            State.open(url)
        expected = [
            f"schema 1 to {SCHEMA_VERSION}",
            "column rate of catimage_keys to rate_limit",
        ]
        assert migrate(state._database, apply=False) == expected
        assert migrate(state._database, apply=True) == expected
        assert migrate(state._database, apply=True) == []
        again = State.open(url)
        assert again.keys.verify(secret).rate_limit == "60/minute"
        again.close()
