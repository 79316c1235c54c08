"""Quota: windows of limits and the pools that they belong to."""
