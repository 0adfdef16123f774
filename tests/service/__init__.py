"""The service: pages, endpoints, jobs."""
