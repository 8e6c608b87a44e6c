"""What happens when things break: processes killed, disks filled, files damaged."""
