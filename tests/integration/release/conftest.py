"""The job that the tests of releases run."""

from tests.support.projects.release_job import job

__all__ = ["job"]
