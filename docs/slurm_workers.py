"""Workers of a Dask cluster as SLURM jobs; runs until it is stopped, on the login node, say."""

import signal

from dask_jobqueue import SLURMCluster

if __name__ == "__main__":
    cluster = SLURMCluster(
        queue="short",  # the partition
        cores=8,
        processes=8,  # of one thread each
        memory="16GB",
        walltime="04:00:00",
        local_directory="/tmp",
        scheduler_options={"port": 8786, "dashboard": False},
    )
    cluster.scale(jobs=50)
    print(cluster.scheduler_address, flush=True)
    signal.pause()
