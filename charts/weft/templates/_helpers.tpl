{{/* Names and labels. Names of things that exist once for each revision end in it. */}}

{{- define "weft.revision" -}}
{{ .Values.revision }}
{{- end }}

{{/* The Deployment, Service and ServiceAccount: plain for the default revision, which is what sidecars dial. */}}
{{- define "weft.name" -}}
{{ eq .Values.revision "default" | ternary "weft-controller" (printf "weft-controller-%s" .Values.revision) }}
{{- end }}

{{- define "weft.labels" -}}
{{ include "weft.selector" . }}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "weft.selector" -}}
app.kubernetes.io/name: weft-controller
app.kubernetes.io/instance: {{ .Release.Name }}
weft.dev/revision: {{ .Values.revision }}
{{- end }}

{{- define "weft.image" -}}
{{ printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- define "weft.host" -}}
{{ include "weft.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Namespaces in which no webhook of ours is called: a cluster, and we ourselves, come up without us. */}}
{{- define "weft.elsewhere" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]
{{- end }}

{{/* Other namespaces' objects of the cluster carry the release's namespace in their names, when it is not the usual. */}}
{{- define "weft.clusterName" -}}
{{ include "weft.name" . }}{{ ne .Release.Namespace "weft-system" | ternary (printf "-%s" .Release.Namespace) "" }}
{{- end }}
