{{/* The release's name, with that of the chart unless it is part of it. */}}
{{- define "sidestream.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "sidestream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sidestream.labels" -}}
{{ include "sidestream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* `metadata` of an object with these labels and annotations: (list $ suffix labels annotations). */}}
{{- define "sidestream.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "sidestream.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "sidestream.labels" $root | nindent 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with index . 3 }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the templates of the library need. */}}
{{- define "sidestream.names" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
configMap: {{ include "sidestream.fullname" . }}
secret: {{ .Values.secret }}
{{- end }}

{{/* The sidecar as the only container of a pod: not an init container, and without the port of an app in the pod. */}}
{{- define "sidestream.container" -}}
{{- $sidecar := include "sidestream.initContainers" . | fromYamlArray | first }}
{{- omit $sidecar "restartPolicy" "env" | toYaml }}
{{- end }}

{{/* The pod without its container. */}}
{{- define "sidestream.pod" -}}
{{- $names := include "sidestream.names" . | fromYaml }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ include "sidestream.terminationGracePeriodSeconds" $names }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sidestream.selector" . | nindent 8 }}
volumes:
  {{- include "sidestream.volumes" $names | nindent 2 }}
{{- end }}
