// Validates custom resources by the schemas of their definitions: a JSON array on standard input, and an error for each
// that does not conform on standard error. Runs in the folder in which `make k8s` installed the schemas.
import { readFileSync } from 'node:fs';

const KINDS = {
  HTTPRoute: '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute',
  PrometheusRule: '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule',
  ServiceMonitor: '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor',
};

for (const { apiVersion, kind, ...fields } of JSON.parse(readFileSync(0, 'utf8'))) {
  const { [kind]: Model } = await import(KINDS[kind]);
  try {
    if (apiVersion !== Model.apiVersion) throw new Error(`apiVersion is ${apiVersion}`);
    new Model(fields).validate();
  } catch (error) {
    console.error(`${kind} ${fields.metadata?.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
