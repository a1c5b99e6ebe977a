"""Definitions that hold a bit of everything; editors' schemas and the loader must agree on them."""

from __future__ import annotations

PIPELINES = {
    "short": """
        name: p
        steps:
          a: {kind: command, command: "true"}
        """,
    "whole": """
        name: digits
        description: A bit of everything
        experiment: trials
        owner: ml
        tags: [demo, weekly]
        schedule: {assets: "s3://x/a & (b | c)"}
        start_date: 2024-01-01
        end_date: 2030-01-01T08:00:00+01:00
        catchup: false
        max_active_runs: 1
        compute: local
        environment: sklearn
        retries: 1
        retry_delay: 5 minutes
        timeout: 3600
        on_success: callbacks.done
        on_failure: callbacks.failed
        parameters:
          c: {type: number, default: 1.0, minimum: 0, maximum: 10, description: Regularization}
          n: 3
          flag: true
          label: text
          solver: {choices: [lbfgs, saga, 1], default: lbfgs}
          required: {type: integer}
        steps:
          fetch:
            kind: data_transfer
            source: {url: "s3://b/${{ run.run_after }}/x.csv", mode: direct, compare: version}
            destination: {datastore: landing, path: "x/${{ parameters.label }}"}
          prepare:
            kind: python_script
            description: Cleans
            display_name: Clean the data
            source_directory: src
            script_name: prepare.py
            code: imports
            arguments: [--raw, "${{ inputs.raw }}", --clean, "${{ outputs.clean }}", --n, "${{ parameters.n }}", 3, 0.5]
            inputs:
              raw: "${{ steps.fetch.outputs.data }}"
              more: data/more.csv
              late: {datastore: landing, path: late.csv, mode: download}
            outputs: {clean: {kind: file, asset: clean, destination: "s3://b/clean"}, report: }
            parameters: {month: "${{ run.run_after }}", depth: 3, rate: 0.1, fast: true}
            environment:
              requirements: [scikit-learn]
              python: python3
              variables: {OMP_NUM_THREADS: 1, C: "${{ parameters.c }}"}
              secrets: {PASSWORD: "connection:warehouse.password", KEY: "variable:key"}
              compare: declared
            allow_reuse: false
            retries: 0
            retry_delay: PT5M
            timeout: 2 hours
            pool: default_pool
            priority: 3
            labels: {team: vision}
            on_success: callbacks.done
            on_failure: callbacks.failed
            on_retry: callbacks.again
            version: "1.10"
          train:
            kind: command
            command: [python, train.py, "${{ inputs.data }}", "${{ outputs.model }}"]
            source_directory: src
            inputs: {data: {from: "${{ steps.prepare.outputs.clean }}", mode: direct}}
            outputs: [model]
            run_after: prepare
          report:
            kind: command
            command: cat ${{ inputs.model }}
            inputs: {model: "${{ steps.train.outputs.model }}"}
            run_after: [train, fetch]
          fit:
            kind: estimator
            source_directory: src
            entry_script: train.py
            arguments: [--data, "${{ inputs.data }}", --model, "${{ outputs.model }}"]
            inputs: {data: "${{ steps.prepare.outputs.clean }}"}
            framework: pytorch
            framework_version: 2.4
            requirements: [pandas]
            code: imports
            distribution:
              kind: torchrun
              nodes: 1
              processes_per_node: "${{ parameters.n }}"
              options: [--max-restarts, 1]
              outputs_of: each
          boost:
            kind: estimator
            source_directory: src
            entry_script: train.py
            framework: catboost
            requirements: pandas
          ranks:
            kind: mpi
            source_directory: src
            script_name: prepare.py
            arguments: [1, "${{ outputs.sums }}"]
            node_count: 1
            process_count_per_node: "${{ parameters.n }}"
            options: [--oversubscribe]
            hostfile: hosts
            outputs_of: first
            outputs: [sums]
          ring:
            kind: mpi
            command: [hostname]
          again:
            kind: module
            module: fit
            version: "1.0"
            inputs: {raw: "${{ steps.prepare.outputs.clean }}"}
            outputs: {model: {asset: again}}
            parameters: {rate: "${{ parameters.c }}"}
        """,
    "list": """
        name: ordered
        schedule: "@daily"
        steps:
          - {name: a, kind: command, command: "true"}
          - - {name: b, kind: command, command: "true"}
            - {name: c, kind: command, command: "true"}
          - {name: d, kind: command, command: "true"}
        """,
    "interval": """
        name: p
        schedule: {hours: 1, minutes: 30}
        start_date: 2024-01-01T00:00:00
        steps:
          a: {kind: command, command: "true"}
        """,
    "assets": """
        name: p
        schedule: {any: [a, {all: [b, c]}]}
        steps:
          a: {kind: command, command: "true"}
        """,
    "merged": """
        name: p
        steps:
          a: &base {kind: command, command: "true", retries: 2}
          b: {<<: *base, command: "false"}
        """,
}

WORKSPACE = """
    store: {url: s3://store, connection: aws}
    datastores:
      landing: ./landing
      lake: {url: s3://lake, connection: aws, description: All of it}
    compute:
      big: {kind: local}
      box: {kind: docker, image: "python:3.12", gpus: 1, memory: 4Gi}
      pod: {kind: kubernetes, namespace: ml, resources: {limits: {nvidia.com/gpu: 1}}}
    environments:
      sklearn: {requirements: [scikit-learn]}
      plain:
    frameworks:
      catboost:
        requirements: ["catboost=={version}"]
        packages: catboost
        build: {base: "python:3.12-slim", python: "3.12"}
        variables: {THREADS: 1}
        starter: mpi
        description: Trees
      sklearn: {image: "example.com/team/sklearn:{version}"}
      pytorch:
    modules: [modules]
    defaults: {compute: local, retries: 1, retry_delay: 1 minute, timeout: PT1H}
    """

MODULES = {
    "fit": """
        name: fit
        version: "1.0"
        default: true
        description: Fits
        inputs: {raw: {description: What to fit}}
        outputs: {model: }
        parameters: {rate: 0.1, kind: {choices: [a, b], default: a}}
        step:
          kind: command
          command: echo ${{ inputs.data }} ${{ parameters.rate }} > ${{ outputs.model }}
          inputs: {data: "${{ inputs.raw }}"}
          outputs: [model]
        """,
    "many": """
        name: many
        version: "2"
        inputs: [raw]
        outputs: {model: "${{ steps.b.outputs.model }}"}
        steps:
          a: {kind: command, command: "true", inputs: {raw: "${{ inputs.raw }}"}, outputs: [clean]}
          b: {kind: command, command: "true", inputs: {x: "${{ steps.a.outputs.clean }}"}, outputs: [model]}
        """,
}
