// Chart checks a chart as `helm lint --strict` does, and prints it as `helm template` does: with Helm's own linter,
// schema validation and template engine. The rest of Helm, which takes minutes to compile, is left out.
//
//	chart FOLDER RELEASE NAMESPACE [VALUES]
package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	values "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	dependencies "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string, out io.Writer) error {
	if len(arguments) != 3 && len(arguments) != 4 {
		return errors.New("usage: chart FOLDER RELEASE NAMESPACE [VALUES]")
	}
	folder := arguments[0]
	release := common.ReleaseOptions{Name: arguments[1], Namespace: arguments[2], Revision: 1, IsInstall: true}
	given := common.Values{}
	if len(arguments) == 4 {
		var err error
		if given, err = common.ReadValuesFile(arguments[3]); err != nil {
			return err
		}
	}
	if err := check(folder, release.Namespace, given); err != nil {
		return err
	}
	return render(folder, release, given, out)
}

// Warnings are errors; information, such as a missing icon, is not.
func check(folder, namespace string, given common.Values) error {
	result := lint.RunAll(folder, given, namespace)
	var found []error
	for _, message := range result.Messages {
		if message.Severity >= support.WarningSev {
			found = append(found, message)
		}
	}
	return errors.Join(found...)
}

func render(folder string, release common.ReleaseOptions, given common.Values, out io.Writer) error {
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	if err := dependencies.ProcessDependencies(chart, given); err != nil {
		return err
	}
	context, err := values.ToRenderValues(chart, given, release, common.DefaultCapabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(chart, context)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		isManifest := path.Base(name) != "NOTES.txt" && strings.TrimSpace(files[name]) != ""
		if !isManifest {
			continue
		}
		if _, err := fmt.Fprintf(out, "---\n# Source: %s\n%s\n", name, strings.TrimSpace(files[name])); err != nil {
			return err
		}
	}
	return nil
}
