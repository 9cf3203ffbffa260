// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// TestManifest derives from go-nvml's source which symbols each call of the narrow interfaces may
// reach, and compares that with the manifest.
func TestManifest(t *testing.T) {
	source := parseBindings(t)
	ours := parsePackage(t, ".")
	want := make(map[string][]string)
	for _, call := range interfaceMethods(ours, "library") {
		want[call] = source.reach("library." + call)
	}
	for _, call := range interfaceMethods(ours, "handle") {
		want[call] = source.reach("nvmlDevice." + call)
	}
	for _, call := range interfaceMethods(ours, "versionedHandle") {
		handler, version := handlerCall(t, ours, call)
		want[call] = source.reach(source.resultOf("nvmlDevice."+handler) + "." + version)
	}
	for call, symbols := range want {
		if !slices.Equal(symbols, manifest[call]) {
			t.Errorf("go-nvml's %s reaches\n\t%q\nthe manifest in symbols.go says\n\t%q", call, symbols, manifest[call])
		}
	}
	for call := range manifest {
		if _, ok := want[call]; !ok {
			t.Errorf("the manifest has %s, which is in none of the interfaces", call)
		}
	}
}

// TestCallsAreGuarded looks at each function of this package: what it calls of the narrow interfaces it
// must have asked the manifest for, by the same name. Init is guarded by probe.
func TestCallsAreGuarded(t *testing.T) {
	ours := parsePackage(t, ".")
	unguarded := []string{"Init", "Extensions"}
	for _, declaration := range ours {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || receiver(function) == "goHandle" {
			continue
		}
		asked := make(map[string]bool)
		ast.Inspect(function, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				name, _ := strconv.Unquote(literal.Value)
				asked[name] = true
			}
			return true
		})
		ast.Inspect(function, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, ok := selector.X.(*ast.SelectorExpr)
			onLibrary := ok && (of.Sel.Name == "library" || of.Sel.Name == "handle")
			variable, ok := selector.X.(*ast.Ident)
			onLibrary = onLibrary || ok && (variable.Name == "lib" || variable.Name == "handle")
			name := selector.Sel.Name
			if _, known := manifest[name]; known && onLibrary && !asked[name] && !slices.Contains(unguarded, name) {
				t.Errorf("%s calls %s without asking the manifest", function.Name.Name, name)
			}
			return true
		})
	}
}

// TestMissingSymbols takes one call after the other away from the library, and does all that the
// driver can do: the call must not be made, and all else must go on.
func TestMissingSymbols(t *testing.T) {
	for call, symbols := range manifest {
		if call == "Init" || len(symbols) == 0 {
			continue
		}
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(dgxh200.New(), "580.95.05")
				m.gpus[2].split()
				for _, symbol := range symbols {
					m.missing[symbol] = true
				}
				for other, needs := range manifest {
					if len(needs) > 0 && !slices.ContainsFunc(needs, func(s string) bool { return !m.missing[s] }) {
						m.forbid(t, other)
					}
				}
				driver := m.open(t)
				if missing := driver.symbols.missing(); !slices.Contains(missing, call) {
					t.Errorf("%s is not among what is missing: %v", call, missing)
				}
				exercise(driver)
			})
		})
	}
}

// forbid makes a call of the library, or of its GPUs, fail the test.
func (m *machine) forbid(t *testing.T, call string) {
	t.Helper()
	targets := []reflect.Value{reflect.ValueOf(&m.Interface).Elem()}
	for _, g := range m.gpus {
		targets = append(targets, reflect.ValueOf(&g.Device.Device).Elem())
		switch call {
		case "temperatureV1":
			g.temperature = func() (nvml.Temperature, nvml.Return) { t.Error(call); return nvml.Temperature{}, 0 }
		case "fabricInfoV2":
			g.fabric2 = func() (nvml.GpuFabricInfo_v2, nvml.Return) { t.Error(call); return nvml.GpuFabricInfo_v2{}, 0 }
		case "fabricInfoV3":
			g.fabric3 = func() (nvml.GpuFabricInfo_v3, nvml.Return) { t.Error(call); return nvml.GpuFabricInfo_v3{}, 0 }
		}
	}
	for _, target := range targets {
		function := target.FieldByName(call + "Func")
		if !function.IsValid() {
			continue
		}
		function.Set(reflect.MakeFunc(function.Type(), func([]reflect.Value) []reflect.Value {
			t.Errorf("%s was called, whose symbol is missing", call)
			results := make([]reflect.Value, function.Type().NumOut())
			for i := range results {
				results[i] = reflect.Zero(function.Type().Out(i))
			}
			return results
		}))
	}
}

// exercise makes every call that package gpu has.
func exercise(driver *Driver) {
	var parts gpu.Parts
	_, _ = driver.System()
	_, _ = driver.NextBinding(0)
	devices, _ := driver.Devices()
	for _, d := range devices {
		exerciseParts(d)
		_, _ = d.Identity()
		_ = d.Fields([]gpu.FieldValue{{FieldID: 83}})
		for getter := range gpu.Getters {
			_ = d.Get(gpu.Getter(getter), &parts)
		}
		for range 2 {
			_, _ = d.(gpu.Profiler).Profile([]gpu.ProfileValue{{MetricID: 2}})
			<-time.After(time.Second)
		}
		_, _ = d.(gpu.Ring).Samples(gpu.RingTotalPower, 0, nil)
		_, _ = d.(gpu.Processes).Processes(gpu.AllProcesses, nil)
		_, _ = d.(gpu.Instances).Instances(nil)
	}
	_, _ = driver.NextEvent(time.Millisecond)
	driver.Close()
}

func exerciseParts(d gpu.Device) {
	var parts gpu.Parts
	list, _ := d.(gpu.Splitter).Parts()
	for _, p := range list {
		_, _ = p.Identity()
		_ = p.Fields([]gpu.FieldValue{{FieldID: 83}})
		for getter := range gpu.Getters {
			_ = p.Get(gpu.Getter(getter), &parts)
		}
		for range 2 {
			_, _ = p.(gpu.Profiler).Profile([]gpu.ProfileValue{{MetricID: 2}})
			<-time.After(time.Second)
		}
	}
}

// bindings is go-nvml's source: functions by name, methods by receiver and name, and for the variables
// that hold a version of a function, all that they may hold.
type bindings struct {
	functions map[string]*ast.FuncDecl
	variables map[string][]string
}

func parseBindings(t *testing.T) bindings {
	t.Helper()
	found, err := build.Import("github.com/NVIDIA/go-nvml/pkg/nvml", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	b := bindings{functions: make(map[string]*ast.FuncDecl), variables: make(map[string][]string)}
	for _, declaration := range parsePackage(t, found.Dir) {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if r := receiver(d); r != "" {
				name = r + "." + name
			}
			b.functions[name] = d
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if value, ok := spec.(*ast.ValueSpec); ok && len(value.Names) == len(value.Values) {
					for i := range value.Names {
						b.mayHold(value.Names[i], value.Values[i])
					}
				}
			}
		}
	}
	ast.Inspect(b.functions["library.updateVersionedSymbols"], func(node ast.Node) bool {
		if assignment, ok := node.(*ast.AssignStmt); ok {
			b.mayHold(assignment.Lhs[0], assignment.Rhs[0])
		}
		return true
	})
	return b
}

func (b bindings) mayHold(variable, value ast.Expr) {
	if v, ok := value.(*ast.Ident); ok {
		name := variable.(*ast.Ident).Name
		b.variables[name] = append(b.variables[name], v.Name)
	}
}

// reach lists the C symbols of NVML that a function may call, sorted.
func (b bindings) reach(function string) []string {
	symbols, visited := make(map[string]bool), make(map[string]bool)
	b.walk(function, symbols, visited)
	if len(symbols) == 0 {
		return []string{}
	}
	return slices.Sorted(maps.Keys(symbols))
}

func (b bindings) walk(name string, symbols, visited map[string]bool) {
	if visited[name] {
		return
	}
	visited[name] = true
	for _, held := range b.variables[name] {
		b.walk(held, symbols, visited)
	}
	declaration := b.functions[name]
	if declaration == nil {
		return
	}
	types := declaredTypes(declaration)
	ast.Inspect(declaration, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch called := call.Fun.(type) {
		case *ast.Ident:
			b.walk(called.Name, symbols, visited)
		case *ast.SelectorExpr:
			of, _ := called.X.(*ast.Ident)
			switch {
			case of == nil:
			case of.Name == "C" && strings.HasPrefix(called.Sel.Name, "nvml") && !strings.HasSuffix(called.Sel.Name, "_t"):
				symbols[called.Sel.Name] = true
			default:
				b.walk(types[of.Name]+"."+called.Sel.Name, symbols, visited)
			}
		}
		return true
	})
}

// resultOf is the type of a function's first result.
func (b bindings) resultOf(function string) string {
	return b.functions[function].Type.Results.List[0].Type.(*ast.Ident).Name
}

// declaredTypes are those of a function's receiver and parameters. Of an interface of go-nvml it is the
// one type behind it.
func declaredTypes(function *ast.FuncDecl) map[string]string {
	implementations := map[string]string{"Device": "nvmlDevice", "EventSet": "nvmlEventSet", "GpmSample": "nvmlGpmSample", "GpuInstance": "nvmlGpuInstance"}
	types := make(map[string]string)
	lists := []*ast.FieldList{function.Type.Params}
	if function.Recv != nil {
		lists = append(lists, function.Recv)
	}
	for _, list := range lists {
		for _, field := range list.List {
			for _, name := range field.Names {
				types[name.Name] = typeName(field.Type)
				if implementation, ok := implementations[types[name.Name]]; ok {
					types[name.Name] = implementation
				}
			}
		}
	}
	return types
}

func receiver(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return ""
	}
	return typeName(function.Recv.List[0].Type)
}

func typeName(expression ast.Expr) string {
	if pointer, ok := expression.(*ast.StarExpr); ok {
		expression = pointer.X
	}
	if name, ok := expression.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// parsePackage reads the declarations of a folder's Go files, without its tests.
func parsePackage(t *testing.T, folder string) []ast.Decl {
	t.Helper()
	var all []ast.Decl
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != folder {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err == nil {
			all = append(all, file.Decls...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// interfaceMethods lists the methods that an interface declares itself.
func interfaceMethods(declarations []ast.Decl, name string) []string {
	var methods []string
	for _, declaration := range declarations {
		ast.Inspect(declaration, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok || spec.Name.Name != name {
				return true
			}
			for _, method := range spec.Type.(*ast.InterfaceType).Methods.List {
				for _, ident := range method.Names {
					methods = append(methods, ident.Name)
				}
			}
			return false
		})
	}
	return methods
}

// handlerCall reads, in a method of goHandle such as "return h.GetTemperatureV().V1()", which handler
// it takes and which version.
func handlerCall(t *testing.T, declarations []ast.Decl, method string) (handler, version string) {
	t.Helper()
	for _, declaration := range declarations {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || receiver(function) != "goHandle" || function.Name.Name != method {
			continue
		}
		outer := function.Body.List[0].(*ast.ReturnStmt).Results[0].(*ast.CallExpr).Fun.(*ast.SelectorExpr)
		return outer.X.(*ast.CallExpr).Fun.(*ast.SelectorExpr).Sel.Name, outer.Sel.Name
	}
	t.Fatalf("goHandle has no method %s", method)
	return "", ""
}
