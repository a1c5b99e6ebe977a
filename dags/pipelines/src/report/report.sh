#!/bin/sh
# report.sh SUMMARY HISTOGRAM REPORT
set -eu
{
  echo "Readings"
  cat "$1"
  echo
  cat "$2"
} > "$3"
cat "$3"
