"""Failed asserts of the shared checks show their values, as those in test files do."""

import pytest

pytest.register_assert_rewrite("tests.contract.checks")
