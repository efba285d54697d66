// Admission judges pods as a Kubernetes API server does: its own MutatingAdmissionPolicy and ValidatingAdmissionPolicy
// plugins, with the policies, bindings, parameters and namespaces of the files named as arguments.
//
// Pods come as a JSON array on standard input. For each, in their order, a line of JSON goes out: `{"pod": ...}` as it
// was admitted, or `{"denied": "why"}`. Nothing here is a server, and nothing is defaulted: pods come as a server would
// have defaulted them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/utils/ptr"
)

// How long the plugins may take to read what they were given.
const ready = 30 * time.Second

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string, in io.Reader, out io.Writer) error {
	objects, err := read(files)
	if err != nil {
		return err
	}
	var pods []corev1.Pod
	if err := strictly(in, &pods); err != nil {
		return fmt.Errorf("the pods: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	judge, err := newJudge(ctx, objects)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	for i := range pods {
		verdict, err := judge.admit(ctx, &pods[i])
		if err != nil {
			return err
		}
		if err := lines.Encode(verdict); err != nil {
			return err
		}
	}
	return nil
}

// Every object of the files, of the types that the server knows; unknown fields are errors.
func read(files []string) ([]runtime.Object, error) {
	var objects []runtime.Object
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if isEmpty(document) {
				continue
			}
			object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			setDefaults(object)
			objects = append(objects, object)
		}
	}
	return objects, nil
}

// What an API server adds to policies when they are created, and its plugins rely on. That part of it is no library.
func setDefaults(object runtime.Object) {
	switch object := object.(type) {
	case *registration.MutatingAdmissionPolicy:
		setMatchDefaults(object.Spec.MatchConstraints)
	case *registration.MutatingAdmissionPolicyBinding:
		setMatchDefaults(object.Spec.MatchResources)
	case *registration.ValidatingAdmissionPolicy:
		setMatchDefaults(object.Spec.MatchConstraints)
	case *registration.ValidatingAdmissionPolicyBinding:
		setMatchDefaults(object.Spec.MatchResources)
	}
}

func setMatchDefaults(match *registration.MatchResources) {
	if match == nil {
		return
	}
	if match.MatchPolicy == nil {
		match.MatchPolicy = ptr.To(registration.Equivalent)
	}
	if match.NamespaceSelector == nil {
		match.NamespaceSelector = &metav1.LabelSelector{}
	}
	if match.ObjectSelector == nil {
		match.ObjectSelector = &metav1.LabelSelector{}
	}
	for i := range match.ResourceRules {
		if match.ResourceRules[i].Scope == nil {
			match.ResourceRules[i].Scope = ptr.To(registration.AllScopes)
		}
	}
}

// A document of comments alone.
func isEmpty(document []byte) bool {
	for _, line := range bytes.Split(document, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func strictly(in io.Reader, into any) error {
	decoder := json.NewDecoder(in)
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

type verdict struct {
	Pod    *corev1.Pod `json:"pod,omitempty"`
	Denied string      `json:"denied,omitempty"`
}

type judge struct {
	mutates    admission.MutationInterface
	validates  admission.ValidationInterface
	interfaces admission.ObjectInterfaces
}

// What both plugins are given by an API server.
type plugin interface {
	SetExternalKubeClientSet(kubernetes.Interface)
	SetExternalKubeInformerFactory(informers.SharedInformerFactory)
	SetUnconditionalAuthorizer(authorizer.UnconditionalAuthorizer)
	SetDrainedNotification(<-chan struct{})
	ValidateInitialization() error
}

func newJudge(ctx context.Context, objects []runtime.Object) (*judge, error) {
	mutates, err := mutating.NewPlugin(nil)
	if err != nil {
		return nil, err
	}
	validates, err := validating.NewPlugin(nil)
	if err != nil {
		return nil, err
	}
	mutates.SetEnabled(true)
	schemas := &schemas{Client: openapitest.NewEmbeddedFileClient(), asked: make(chan struct{}, 1)}
	client := &client{Clientset: fake.NewClientset(objects...), schemas: schemas}
	factory := informers.NewSharedInformerFactory(client, 0)
	mapper := testrestmapper.TestOnlyStaticRESTMapper(scheme.Scheme)
	dynamic := dynamicfake.NewSimpleDynamicClient(scheme.Scheme, objects...)
	mutates.SetRESTMapper(mapper)
	mutates.SetDynamicClient(dynamic)
	validates.SetRESTMapper(mapper)
	validates.SetDynamicClient(dynamic)
	for _, plugin := range []plugin{mutates, validates} {
		plugin.SetExternalKubeClientSet(client)
		plugin.SetExternalKubeInformerFactory(factory)
		plugin.SetUnconditionalAuthorizer(authorizerfactory.NewAlwaysAllowAuthorizer())
		plugin.SetDrainedNotification(ctx.Done())
		if err := plugin.ValidateInitialization(); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return &judge{mutates, validates, admission.NewObjectInterfacesFromScheme(scheme.Scheme)}, schemas.await()
}

func (j *judge) admit(ctx context.Context, pod *corev1.Pod) (*verdict, error) {
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	attributes := admission.NewAttributesRecord(pod, nil, pod.GroupVersionKind(), pod.Namespace, pod.Name,
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, &metav1.CreateOptions{}, false,
		&user.DefaultInfo{Name: "somebody"})
	if err := j.mutates.Admit(ctx, attributes, j.interfaces); err != nil {
		return &verdict{Denied: err.Error()}, nil
	}
	if err := j.validates.Validate(ctx, attributes, j.interfaces); err != nil {
		return &verdict{Denied: err.Error()}, nil
	}
	admitted, ok := attributes.GetObject().(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%T came out for a pod", attributes.GetObject())
	}
	// A mutation loses it.
	admitted.SetGroupVersionKind(attributes.GetKind())
	return &verdict{Pod: admitted}, nil
}

// A client that knows the schemas of the built-in types; the fake one panics when it is asked for them.
type client struct {
	*fake.Clientset
	schemas *schemas
}

func (c *client) Discovery() discovery.DiscoveryInterfaces {
	return &discoveryClient{c.Clientset.Discovery(), c.schemas}
}

type discoveryClient struct {
	discovery.DiscoveryInterfaces
	schemas *schemas
}

func (d *discoveryClient) OpenAPIV3() openapi.Client {
	return d.schemas
}

// Schemas that tell when they were read, which the mutating plugin does in the background.
type schemas struct {
	openapi.Client
	asked chan struct{}
}

func (s *schemas) Paths() (map[string]openapi.GroupVersion, error) {
	paths, err := s.Client.Paths()
	select {
	case s.asked <- struct{}{}:
	default:
	}
	return paths, err
}

func (s *schemas) await() error {
	select {
	case <-s.asked:
		return nil
	case <-time.After(ready):
		return errors.New("the mutating plugin did not ask for schemas")
	}
}
