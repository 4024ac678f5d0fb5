"""For tools that expect a setup.py; pyproject.toml describes the package."""

from setuptools import setup

setup()
