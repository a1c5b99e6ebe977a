"""What a user writes: pipelines and all that belongs to them. Plain Python, without Airflow."""

from airflow_mlpipe.definitions.compute import ComputeTarget, DockerCompute, KubernetesCompute, LocalCompute
from airflow_mlpipe.definitions.data import (
    DataReference,
    Datastore,
    Destination,
    InputBinding,
    PipelineData,
    StepOutput,
)
from airflow_mlpipe.definitions.distribution import Distribution
from airflow_mlpipe.definitions.dump import dump
from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.load import find_workspace, load_pipeline, load_workspace, loads
from airflow_mlpipe.definitions.module import Module
from airflow_mlpipe.definitions.modules import load_module
from airflow_mlpipe.definitions.modulestep import ModuleStep
from airflow_mlpipe.definitions.mpi import MpiStep
from airflow_mlpipe.definitions.parallel import Parallel
from airflow_mlpipe.definitions.parameter import PipelineParameter, parameter_values
from airflow_mlpipe.definitions.pipeline import Pipeline
from airflow_mlpipe.definitions.schedule import AssetAll, AssetAny, Schedule
from airflow_mlpipe.definitions.sequence import StepSequence
from airflow_mlpipe.definitions.steps import CommandStep, DataTransferStep, PythonScriptStep, Step
from airflow_mlpipe.definitions.sweep import Objective, Range, Sweep
from airflow_mlpipe.definitions.workspace import Workspace

__all__ = [
    "AssetAll",
    "AssetAny",
    "CommandStep",
    "ComputeTarget",
    "DataReference",
    "DataTransferStep",
    "Datastore",
    "Destination",
    "Distribution",
    "DockerCompute",
    "Environment",
    "EstimatorStep",
    "InputBinding",
    "KubernetesCompute",
    "LocalCompute",
    "Module",
    "ModuleStep",
    "MpiStep",
    "Objective",
    "Parallel",
    "Pipeline",
    "PipelineData",
    "PipelineParameter",
    "PythonScriptStep",
    "Range",
    "Schedule",
    "Step",
    "StepOutput",
    "StepSequence",
    "Sweep",
    "Workspace",
    "dump",
    "find_workspace",
    "load_module",
    "load_pipeline",
    "load_workspace",
    "loads",
    "parameter_values",
]
