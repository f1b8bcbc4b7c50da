"""What deploys the flow: steps of prefect.yaml, the work pools, the automations, the image and its services."""
