{{- /*
The sidecar as named templates. Their context is a map with the optional keys `image`, `configMap`, `secret` and
`upstreamPort`. Printed by `sidestream inject --print helm`; don't edit it.
*/}}

{{- define "sidestream.annotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "19090"
prometheus.io/path: "/metrics"
{{- with .upstreamPort }}
sidestream.io/upstream-port: "{{ . }}"
{{- end }}
{{- end }}

{{- define "sidestream.initContainers" -}}
- name: sidestream
  image: "{{ .image | default `sidestream:0.1.0` }}"
  restartPolicy: Always # a native sidecar: starts before the app, ends after it
  # Ports that apps rarely use. They are fixed here, so that probes and Services do not depend on the configuration.
  args:
    - run
    - --config=/etc/sidestream/sidestream.yaml
    - --listen=0.0.0.0:18080
    - --admin=0.0.0.0:19090
  env:
    # The app's port from the pod's annotation; without it, the configuration's `upstream.address` applies.
    - name: SIDESTREAM_UPSTREAM_PORT
      valueFrom:
        fieldRef:
          apiVersion: v1
          fieldPath: metadata.annotations['sidestream.io/upstream-port']
  ports:
    - name: http-streams
      containerPort: 18080
      protocol: TCP
    - name: http-admin
      containerPort: 19090
      protocol: TCP
  # The app waits for this probe, so it must not depend on Kafka: /livez, not /readyz.
  startupProbe:
    httpGet:
      path: /livez
      port: 19090
    periodSeconds: 1
    failureThreshold: 30
  # Ready when the replay window is filled or `kafka.warm_up` is over; a Kafka outage does not stop the pod's REST
  # traffic.
  readinessProbe:
    httpGet:
      path: /readyz
      port: 19090
    periodSeconds: 2
    failureThreshold: 2
  livenessProbe:
    httpGet:
      path: /livez
      port: 19090
    periodSeconds: 10
    failureThreshold: 3
    terminationGracePeriodSeconds: 10 # a process that hangs cannot drain
  lifecycle:
    # Ends streams at a bounded rate while the pod still serves; SIGTERM follows after the app has ended.
    preStop:
      exec:
        command:
          - sidestream
          - drain
          - --admin=127.0.0.1:19090
  # Idle: 21 MB, and about 1 KB per stream. The limit has room for replay windows and the queues of slow clients.
  # No CPU limit: throttling adds latency to every stream.
  resources:
    requests:
      cpu: 50m
      memory: 64Mi
    limits:
      memory: 256Mi
  # The `restricted` Pod Security Standard, regardless of the pod's settings.
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop:
        - ALL
    readOnlyRootFilesystem: true
    runAsGroup: 65532
    runAsNonRoot: true
    runAsUser: 65532
    seccompProfile:
      type: RuntimeDefault
  # Directories, not files by subPath: those do not follow changes of the ConfigMap or Secret.
  volumeMounts:
    - name: sidestream-config
      mountPath: /etc/sidestream
      readOnly: true
    - name: sidestream-secrets
      mountPath: /etc/sidestream-secrets
      readOnly: true
{{- end }}

{{- define "sidestream.volumes" -}}
- name: sidestream-config
  configMap:
    name: "{{ .configMap | default `sidestream` }}"
- name: sidestream-secrets
  secret:
    secretName: "{{ .secret | default `sidestream` }}"
    optional: true
{{- end }}

{{- define "sidestream.terminationGracePeriodSeconds" -}}
40
{{- end }}

{{- define "sidestream.port" -}}
18080
{{- end }}

{{- define "sidestream.adminPort" -}}
19090
{{- end }}
